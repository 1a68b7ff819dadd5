#include "capi/tensors.hpp"

#include <algorithm>

#include "capi/structs.hpp"
#include "capi/values.hpp"

namespace tokenyard::capi {

TensorView view_of(const ty_tensor& tensor, const char* name) {
  if (tensor.num_dims < 0 || tensor.num_dims > TensorView::kMaxDims) {
    fail_argument("{}: num_dims is {}: a tensor has 0 to {} dimensions", name, tensor.num_dims, TensorView::kMaxDims);
  }
  if (tensor.dtype < 0 || tensor.dtype > TY_INT64)
    fail_argument("{}: dtype is {}, which is no ty_data_type", name, tensor.dtype);
  TensorView view;
  view.data = tensor.data;
  view.dtype = static_cast<DataType>(tensor.dtype);
  view.num_dims = tensor.num_dims;
  std::copy_n(tensor.shape, tensor.num_dims, view.shape.begin());
  std::copy_n(tensor.strides, tensor.num_dims, view.strides.begin());
  return view;
}

TensorView read_tensor(const ty_tensor* tensor, const char* name) {
  return tensor == nullptr ? TensorView() : view_of(read_struct(tensor, name), name);
}

void write_tensor(const ConstTensorView& view, ty_tensor* tensor, const char* name) {
  ty_tensor written = TY_TENSOR_INIT;
  written.data = const_cast<void*>(view.data);
  written.dtype = static_cast<ty_data_type>(view.dtype);
  written.num_dims = view.num_dims;
  std::copy_n(view.shape.begin(), view.num_dims, written.shape);
  std::copy_n(view.strides.begin(), view.num_dims, written.strides);
  write_struct(written, tensor, name);
}

}  // namespace tokenyard::capi
