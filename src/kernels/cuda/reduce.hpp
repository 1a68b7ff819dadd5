// Second half of a combine: the contributions of all ranks that a token visited are summed at its home, in rank order. As
// kernels/host/reduce.hpp, on a device.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/signals.hpp"
#include "layout/sent_block.hpp"
#include "tokenyard/shape.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cuda {

// Pointers are to device memory. Elements are aligned to their size, contributions to 16 bytes.
struct ReduceArgs {
  DataType dtype = DataType::kBFloat16;  // float16, bfloat16, float32 or float64
  std::size_t row_bytes = 0;             // a multiple of 16
  bool as_float8 = false;                // contributions have come back as FP8 with scales; none is read in place then
  std::size_t returned_row_bytes = 0;    // with as_float8: of a contribution that has come back; otherwise it has row_bytes
  std::int64_t num_tokens = 0;
  int max_fan_out = 0;
  int num_ranks = 1;
  const std::int32_t* fan_out = nullptr;      // [T]
  const std::int32_t* destination = nullptr;  // [T, F]
  const std::int64_t* row = nullptr;          // [T, F]: at the destination, -1 where dropped: adds nothing

  // By slot, [R]: where a rank's contributions can be read by the row at the destination. Which slot, or that they were
  // returned to place (token, ordinal) of `returned_rows` instead, says the header of the rank's `enter`; without lines it is
  // slot 0. A null array or entry: they were returned.
  std::array<const std::byte* const*, tokenyard::kNumSlots> in_place{};
  int rank = 0;
  const std::byte* own_rows = nullptr;  // this rank's contributions to its own tokens, or null: they were returned
  // Not null: where ranks whose headers say that they carry their rows write them, each a block at its staged_row.
  const std::byte* carried_rows = nullptr;
  const SentBlock* sent = nullptr;           // [R], of `place`; with carried_rows
  const std::byte* returned_rows = nullptr;  // [T, F, row_bytes or returned_row_bytes]
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
