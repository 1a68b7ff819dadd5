// Second half of a combine: the contributions of all ranks that a token visited are summed at its home, in rank order. As
// kernels/host/reduce.hpp, on a device.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/signals.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cuda {

// Pointers are to device memory. Elements are aligned to their size, contributions to 16 bytes.
struct ReduceArgs {
  DataType dtype = DataType::kBFloat16;  // float16, bfloat16, float32 or float64
  std::size_t row_bytes = 0;             // a multiple of 16
  std::int64_t num_tokens = 0;
  int max_fan_out = 0;
  int num_ranks = 1;
  const std::int32_t* fan_out = nullptr;      // [T]
  const std::int32_t* destination = nullptr;  // [T, F]
  const std::int64_t* row = nullptr;          // [T, F]: at the destination, -1 where dropped: adds nothing

  // [R]: where a rank's contributions lie by the row at the destination (pulled from there), or null where they were returned
  // to place (token, ordinal) of `returned_rows`. A null array: all were returned.
  const std::byte* const* in_place = nullptr;
  const std::byte* returned_rows = nullptr;  // [T, F, row_bytes]
  std::array<ConstTensorView, 2> biases{};   // [T, num_elements], dense rows, or empty
  TensorView output{};                       // the same

  int top_k = 0;
  const std::int32_t* ordinal = nullptr;    // [T, k]
  const float* returned_weights = nullptr;  // [T, k]
  TensorView weights{};                     // f32 [T, k], or empty

  Handshake handshake{};
  LaunchState* state = nullptr;
};

// Stream-ordered, capturable. The entry wait comes before the first contribution is read.
void reduce(const ReduceArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
