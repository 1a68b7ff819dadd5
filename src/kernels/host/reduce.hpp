// Second half of a combine: the contributions of all ranks that a token visited are summed at its home.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/host/rows.hpp"
#include "layout/plan_layout.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::host {

struct ReduceArgs {
  DataType dtype;
  std::size_t row_bytes;
  Stores stores;
  std::size_t returned_row_bytes;
  bool as_float8;  // returned contributions are FP8 with scales; see float8_row.hpp
  std::int64_t num_tokens;
  int max_fan_out;
  const std::int32_t* fan_out;
  const std::int32_t* destination;
  const std::int64_t* row;               // at the destination, -1 where dropped: adds nothing
  std::span<const std::uint8_t> absent;  // by rank: 1 where nothing was returned: adds nothing

  ReturnPlaces places;
  const std::byte* returned_rows;  // [places, returned_row_bytes] of this rank's combine window
  // Per rank: where its contributions lie by the row at the destination, or null where they were returned.
  std::span<const std::byte* const> in_place;
  std::array<ConstTensorView, 2> biases;
  TensorView output;

  int top_k;
  const std::int32_t* ordinal;    // [T, k]
  const float* returned_weights;  // [weight rows, k] of this rank's combine window
  TensorView weights;             // f32 [T, k], or empty
};

void reduce(const ReduceArgs& args);

}  // namespace tokenyard::host
