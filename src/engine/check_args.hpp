// // What can be said about a call's arguments. All throw Error(kInvalidArgument) with the value, the limit and the way out.
#pragma once

#include <string>

#include "tokenyard/shape.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

// A dense tensor like `wanted`, which may have more rows if it has two dimensions. `wanted` needs no memory.
void check_output(const std::string& name, const TensorView& output, const TensorView& wanted);

// An output of a dispatch: [num_rows, row], or [num_local_experts, capacity, row] for kExpertPadded.
TensorView tensor_of_rows(const Shape& shape, const Lane& lane, int num_local_experts, std::int64_t num_rows, std::byte* data);

}  // namespace tokenyard
