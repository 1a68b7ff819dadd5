// What can be said about a call's arguments. All throw Error(kInvalidArgument) with the value, the limit and the way out.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tokenyard/shape.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

// An output of a dispatch: [num_rows, row], or [num_local_experts, capacity, row] for kExpertPadded.
TensorView tensor_of_rows(const Shape& shape, const Lane& lane, int num_local_experts, std::int64_t num_rows, std::byte* data);

// That a caller's output is such a tensor, of `min_rows` rows or more where it has one row dimension.
void check_output(std::size_t lane_idx, const TensorView& output, const Shape& shape, int num_local_experts,
                  std::int64_t min_rows);

}  // namespace tokenyard
