// Whether every row is where it belongs and what it should be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "cli/bench_setup.hpp"
#include "tokenyard/plan.hpp"

namespace tokenyard::cli {

// What a token's row of a lane is at its source, before dispatch; `lane_idx` counts the lanes that ranks give.
void write_token_row(const BenchSetup& setup, int source, std::int64_t token, std::size_t lane_idx, std::byte* row);

// The rows of all tokens as they arrive where dispatch quantises: BenchSetup::quantized.
std::vector<std::vector<std::vector<std::byte>>> expect_quantized(const BenchSetup& setup);

// The rows that `rank` passes to combine, in the layout that dispatch gave: they differ by rank and expert, so that a sum tells
// which rows went into it.
void write_expert_rows(const BenchSetup& setup, int rank, std::byte* rows);

// What a dispatch has delivered, in memory of the host.
struct Delivered {
  std::int64_t num_recv_rows = 0;
  std::int64_t num_expanded_rows = 0;
  std::vector<const std::byte*> lanes;  // dense rows
  const std::int32_t* topk_idx = nullptr;
  const float* topk_weights = nullptr;
  const std::int32_t* source_token = nullptr;
  const std::int64_t* source_offsets = nullptr;
};

// The result of a rank on the host, as it is.
Delivered delivered_by(const Received& received, int num_lanes);

// Received rows of all lanes that are not what the source sent, that are missing or too many; and those whose source, ids or
// weights are wrong. Gaps of the expert-contiguous layout count as rows: they must be zero.
std::int64_t count_wrong_received(const BenchSetup& setup, int rank, const Delivered& delivered);

// What combine has summed: the rows of write_expert_rows, or the received rows themselves (compact layout).
enum class Returned : std::uint8_t { kExpertRows, kReceivedRows };

// Output rows of combine on `rank` that differ from plain sums in the documented order.
std::int64_t count_wrong_combined(const BenchSetup& setup, int rank, const std::byte* output,
                                  Returned returned = Returned::kExpertRows);

}  // namespace tokenyard::cli
