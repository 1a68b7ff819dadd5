// Checks of tensors that a caller passed: each throws Error(kInvalidArgument) with the argument's name, what it is and what it
// should be. `name` may add what the argument stands for.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

// A tensor of two dimensions with a place in memory (an empty one needs none).
void check_matrix(const char* name, const ConstTensorView& tensor);
void check_matrix(const char* name, const ConstTensorView& tensor, std::int64_t num_rows, std::int64_t num_columns);

void check_dtype(const char* name, const ConstTensorView& tensor, std::initializer_list<DataType> allowed);

// The elements of a row stand side by side; the rows of the matrix may stand apart.
void check_dense_rows(const char* name, const ConstTensorView& tensor);

}  // namespace tokenyard
