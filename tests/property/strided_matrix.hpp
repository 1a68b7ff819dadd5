// A matrix in memory of its own whose elements stand anywhere that strides can say, with poison in between.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tests/support/random_bits.hpp"
#include "tests/support/residence.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::test {

inline constexpr std::byte kPoison{0xa5};

class StridedMatrix {
 public:
  enum class Rows { kDense, kAny };  // whether the elements of a row must stand side by side

  // Filled with poison all over.
  StridedMatrix(Residence* residence, RandomBits* random, Rows rows, DataType dtype, std::int64_t num_rows,
                std::int64_t num_columns);
  StridedMatrix(StridedMatrix&&) = default;
  StridedMatrix& operator=(StridedMatrix&&) = default;

  // For a call, with what the elements are now. A matrix without rows may lie nowhere.
  TensorView for_call() { return memory_ == nullptr ? view_ : memory_->for_call(view_); }

  // To be called between the end of a call that has written and the first look.
  void take_back();

  // Packed elements of one row.
  void set_row(std::int64_t row, const std::byte* elements);
  void get_row(std::int64_t row, std::byte* elements) const;

  // Replaces all elements by poison, and says whether there is nothing but poison then: no gap was written to.
  bool erase();

 private:
  std::unique_ptr<TensorMemory> memory_;  // null: no elements
  TensorView view_;                       // on the host
};

}  // namespace tokenyard::test
