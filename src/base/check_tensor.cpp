#include "base/check_tensor.hpp"

#include <algorithm>
#include <string>

#include "base/fail.hpp"

namespace tokenyard {

void check_matrix(const char* name, const ConstTensorView& tensor) {
  if (tensor.num_dims != 2) fail_argument("{}: {} dimensions given, 2 expected", name, tensor.num_dims);
  const auto [num_rows, num_columns] = std::pair(tensor.shape[0], tensor.shape[1]);
  if (num_rows < 0 || num_columns < 0) fail_argument("{}: the shape [{}, {}] is negative", name, num_rows, num_columns);
  if (tensor.data == nullptr && tensor.num_elements() != 0) {
    fail_argument("{}: null pointer for a tensor of shape [{}, {}]", name, num_rows, num_columns);
  }
}

void check_matrix(const char* name, const ConstTensorView& tensor, std::int64_t num_rows, std::int64_t num_columns) {
  check_matrix(name, tensor);
  if (tensor.shape[0] != num_rows || tensor.shape[1] != num_columns) {
    fail_argument("{}: shape [{}, {}] given, [{}, {}] expected", name, tensor.shape[0], tensor.shape[1], num_rows, num_columns);
  }
}

void check_dtype(const char* name, const ConstTensorView& tensor, std::initializer_list<DataType> allowed) {
  if (std::find(allowed.begin(), allowed.end(), tensor.dtype) != allowed.end()) return;
  std::string expected;
  for (const DataType dtype : allowed) {
    if (!expected.empty()) expected += " or ";
    expected += to_string(dtype);
  }
  fail_argument("{}: elements of type {} given, {} expected", name, to_string(tensor.dtype), expected);
}

void check_dense_rows(const char* name, const ConstTensorView& tensor) {
  if (tensor.shape[1] > 1 && tensor.strides[1] != 1) {
    fail_argument("{}: the elements of a row stand {} apart, but must be dense (stride 1); copy the tensor first", name,
                  tensor.strides[1]);
  }
}

}  // namespace tokenyard
