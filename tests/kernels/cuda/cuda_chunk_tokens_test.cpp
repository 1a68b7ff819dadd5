#include <algorithm>

#include "kernels/cuda/chunk_tokens.hpp"
#include "tests/kernels/cuda/gpu_ranks.hpp"
#include "tests/kernels/cuda/routed_tokens.hpp"
#include "tests/kernels/cuda/seeds.hpp"

namespace tokenyard::test {
namespace {

constexpr Chunks kChunks{.num_chunks = 5, .ends = {15, 29, 42, 54, 64}};

// Of one rank: as plain loops find them.
void find_as_plain_loops_do(std::uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  RandomBits random(seed);
  const RoutedCase routed = make_routed_case(random, {{.dtype = DataType::kFloat32, .num_elements = 4}}, {.max_tokens = 9'000});
  const int rank = static_cast<int>(random.from(0, routed.num_ranks - 1));
  const RoutedTokens& tokens = routed.ranks[rank];
  const int max_fan_out = routed.dimensions.max_fan_out;
  // Nothing is dropped where copy engines carry rows: positions stand for rows.
  std::vector<SentBlock> blocks(routed.num_ranks, SentBlock{0, 0, 0});
  for (int peer = 0; peer < routed.num_ranks; ++peer) blocks[peer].num_rows = tokens.rank_counts[peer];
  std::vector<std::int32_t> begin(kChunks.num_chunks + 1, static_cast<std::int32_t>(tokens.num_tokens));
  for (std::int64_t token = 0; token < tokens.num_tokens; ++token) {
    for (int ordinal = 0; ordinal < tokens.fan_out[token]; ++ordinal) {
      const std::int64_t entry = token * max_fan_out + ordinal;
      const int peer = tokens.destination[entry];
      if (peer == rank) continue;
      const int chunk = kChunks.chunk_of(tokens.position[entry], blocks[peer].num_rows);
      for (int i = 0; i <= chunk; ++i) begin[i] = std::min(begin[i], static_cast<std::int32_t>(token));
    }
  }
  begin[0] = 0;

  GpuRanks gpus(1, 1);
  const DeviceArray<std::int32_t> fan_out(tokens.fan_out);
  const DeviceArray<std::int32_t> destination(tokens.destination);
  const DeviceArray<std::int64_t> row(tokens.position);
  const DeviceArray<SentBlock> sent(blocks);
  const DeviceArray<std::int32_t> found(begin.size());
  cuda::chunk_tokens({.num_tokens = tokens.num_tokens,
                      .max_fan_out = max_fan_out,
                      .rank = rank,
                      .fan_out = fan_out.data(),
                      .destination = destination.data(),
                      .row = row.data(),
                      .sent = sent.data(),
                      .chunks = kChunks,
                      .begin = found.data()},
                     {.stream = gpus.stream(0)});
  gpus.finish();
  EXPECT_EQ(found.contents(), begin);
}

TEST(cuda_chunk_tokens, are_those_that_plain_loops_find) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(50)) {
    find_as_plain_loops_do(seed);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace tokenyard::test
