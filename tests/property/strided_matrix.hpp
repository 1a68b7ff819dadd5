// A matrix in memory of its own whose elements stand anywhere that strides can say, with poison in between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/support/random_bits.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::test {

inline constexpr std::byte kPoison{0xa5};

class StridedMatrix {
 public:
  enum class Rows { kDense, kAny };  // whether the elements of a row must stand side by side

  // Filled with poison all over.
  StridedMatrix(RandomBits* random, Rows rows, DataType dtype, std::int64_t num_rows, std::int64_t num_columns);
  StridedMatrix(StridedMatrix&&) = default;
  StridedMatrix& operator=(StridedMatrix&&) = default;

  // A matrix without rows may lie nowhere.
  TensorView view() { return view_; }

  // Packed elements of one row.
  void set_row(std::int64_t row, const std::byte* elements);
  void get_row(std::int64_t row, std::byte* elements) const;

  // Replaces all elements by poison, and says whether there is nothing but poison then: no gap was written to.
  bool erase();

 private:
  std::vector<std::byte> bytes_;
  TensorView view_;
};

}  // namespace tokenyard::test
