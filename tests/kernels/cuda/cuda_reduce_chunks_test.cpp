#include <chrono>
#include <thread>

#include "base/failure_word.hpp"
#include "kernels/cuda/chunk_tokens.hpp"
#include "kernels/cuda/meet.hpp"
#include "kernels/cuda/reduce_chunks.hpp"
#include "kernels/host/reduce.hpp"
#include "memory/side_stream.hpp"
#include "tests/kernels/cuda/gpu_ranks.hpp"
#include "tests/kernels/cuda/routed_tokens.hpp"
#include "tests/kernels/cuda/seeds.hpp"
#include "tests/kernels/cuda/telling_numbers.hpp"

namespace tokenyard::test {
namespace {

constexpr Chunks kChunks{.num_chunks = 4, .ends = {10, 30, 55, 64}};
constexpr std::uint64_t kNumber = 5;  // of this rank's copies

// Through a stream that does not wait for the kernel.
void copy_beside(void* target, const void* source, std::size_t num_bytes) {
  check_cuda(cudaMemcpyAsync(target, source, num_bytes, cudaMemcpyHostToDevice, side_stream()), "cudaMemcpyAsync");
  check_cuda(cudaStreamSynchronize(side_stream()), "cudaStreamSynchronize");
}

// What `peer` tells the others: that it has entered, and that nothing else is to be waited for; or that it has read all.
void post(const GpuRanks& gpus, int peer, cuda::LineWord word, bool carries) {
  gpus.select(peer);
  cuda::Handshake handshake;
  handshake.signals = gpus.signals(peer);
  handshake.header = {.kind = CallKind::kCombine, .in_place_slot = 0, .carries_rows = carries};
  handshake.entry_post = word;
  handshake.posts_data_at_entry = word == cuda::LineWord::kEnter;
  cuda::meet({.handshake = handshake, .state = gpus.state(peer)}, {.stream = gpus.stream(peer)});
}

// Of one rank. Its own contributions and those of some others lie in place, the rest comes while the kernel runs.
void sum_while_chunks_come(std::uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  RandomBits random(seed);
  const DataType dtype = random.pick({DataType::kBFloat16, DataType::kFloat16, DataType::kFloat32, DataType::kFloat64});
  const std::int64_t num_elements = static_cast<std::int64_t>(16 / size_of(dtype)) * random.any_magnitude(1, 600);
  const std::size_t row_bytes = num_elements * size_of(dtype);
  const RoutedCase routed =
      make_routed_case(random, {{.dtype = dtype, .num_elements = num_elements}}, {.max_ranks = random.one_in(6) ? 45 : 8});
  const int rank = static_cast<int>(random.from(0, routed.num_ranks - 1));
  const RoutedTokens& tokens = routed.ranks[rank];
  const int max_fan_out = routed.dimensions.max_fan_out;
  const std::int64_t output_gap = random.one_in(2) ? 0 : random.from(1, 9);
  const auto tensor_at = [&](void* data) {
    return TensorView(data, dtype, {tokens.num_tokens, num_elements}, {num_elements + output_gap, 1});
  };

  // Nothing is dropped where copy engines carry rows: positions stand for rows.
  std::vector<SentBlock> blocks;
  std::vector<std::vector<std::byte>> rows;
  std::vector<bool> carries;
  std::vector<const std::byte*> in_place;
  std::int64_t num_staged = 0;
  for (int peer = 0; peer < routed.num_ranks; ++peer) {
    const std::int64_t num_rows = tokens.rank_counts[peer];
    blocks.push_back({0, num_rows, num_staged});
    if (peer != rank) num_staged += num_rows;
    rows.push_back(telling_numbers(random, dtype, num_rows * num_elements));
    in_place.push_back(rows.back().data());
    carries.push_back(peer != rank && !random.one_in(4));
  }
  std::vector<std::byte> expected(tokens.num_tokens * (num_elements + output_gap) * size_of(dtype), std::byte{0x5a});
  const std::vector<std::uint8_t> absent(routed.num_ranks, 0);
  host::reduce({.dtype = dtype,
                .row_bytes = row_bytes,
                .stores = host::Stores::kCached,
                .returned_row_bytes = 0,
                .as_float8 = false,
                .num_tokens = tokens.num_tokens,
                .max_fan_out = max_fan_out,
                .fan_out = tokens.fan_out.data(),
                .destination = tokens.destination.data(),
                .row = tokens.position.data(),
                .absent = absent,
                .places = return_places(routed.shape, routed.dimensions),
                .returned_rows = nullptr,
                .in_place = in_place,
                .biases = {},
                .output = tensor_at(expected.data()),
                .top_k = 0,
                .ordinal = nullptr,
                .returned_weights = nullptr,
                .weights = {}});

  GpuRanks gpus(routed.num_ranks, 1);
  std::vector<DeviceArray<std::byte>> standing;
  std::vector<const std::byte*> standing_rows;
  for (int peer = 0; peer < routed.num_ranks; ++peer) {
    standing.emplace_back(carries[peer] ? std::vector<std::byte>(rows[peer].size(), std::byte{0x5a}) : rows[peer]);
    standing_rows.push_back(standing.back().data());
  }
  const DeviceArray<const std::byte*> in_slot(standing_rows);
  const DeviceArray<std::int32_t> fan_out(tokens.fan_out);
  const DeviceArray<std::int32_t> destination(tokens.destination);
  const DeviceArray<std::int64_t> row(tokens.position);
  const DeviceArray<SentBlock> sent(blocks);
  const DeviceArray<std::int32_t> begin(std::size_t{Chunks::kMaxChunks + 1});
  const std::uint64_t turn = gpus.turn(rank);
  const DeviceArray<std::uint64_t> arrivals(
      std::vector<std::uint64_t>(static_cast<std::size_t>(kChunks.num_chunks * routed.num_ranks), turn - 1));
  const DeviceArray<std::uint64_t> copied(std::vector<std::uint64_t>{kNumber - 1});
  const DeviceArray<std::byte> staging(std::vector<std::byte>(num_staged * row_bytes, std::byte{0x5a}));
  const DeviceArray<std::byte> output(std::vector<std::byte>(expected.size(), std::byte{0x5a}));
  for (int peer = 0; peer < routed.num_ranks; ++peer) {
    if (peer != rank) post(gpus, peer, cuda::LineWord::kEnter, carries[peer]);
  }
  gpus.select(rank);
  const cuda::Launch launch{.stream = gpus.stream(rank), .num_sms = static_cast<int>(random.from(1, 24))};
  cuda::chunk_tokens({.num_tokens = tokens.num_tokens,
                      .max_fan_out = max_fan_out,
                      .rank = rank,
                      .fan_out = fan_out.data(),
                      .destination = destination.data(),
                      .row = row.data(),
                      .sent = sent.data(),
                      .chunks = kChunks,
                      .begin = begin.data()},
                     launch);
  cuda::reduce_chunks({.reduce = {.dtype = dtype,
                                  .row_bytes = row_bytes,
                                  .num_tokens = tokens.num_tokens,
                                  .max_fan_out = max_fan_out,
                                  .num_ranks = routed.num_ranks,
                                  .fan_out = fan_out.data(),
                                  .destination = destination.data(),
                                  .row = row.data(),
                                  .in_place = {in_slot.data(), nullptr},
                                  .rank = rank,
                                  .own_rows = standing_rows[rank],
                                  .carried_rows = staging.data(),
                                  .sent = sent.data(),
                                  .output = tensor_at(output.data()),
                                  .handshake = {.signals = gpus.signals(rank),
                                                .entry_wait = cuda::LineWord::kData,
                                                .reads_calls = true,
                                                .entry_phase = Phase::kCombineRows},
                                  .state = gpus.state(rank)},
                       .begin = begin.data(),
                       .num_chunks = kChunks.num_chunks,
                       .arrivals = arrivals.data(),
                       .copies = {copied.data(), kNumber}},
                      launch);
  for (int chunk = 0; chunk < kChunks.num_chunks; ++chunk) {
    for (int peer = 0; peer < routed.num_ranks; ++peer) {
      if (!carries[peer]) continue;
      const SentBlock& block = blocks[peer];
      const std::int64_t first = kChunks.begin(chunk, block.num_rows);
      copy_beside(staging.data() + (block.staged_row + first) * row_bytes, rows[peer].data() + first * row_bytes,
                  (kChunks.end(chunk, block.num_rows) - first) * row_bytes);
      if (random.one_in(8)) std::this_thread::sleep_for(std::chrono::microseconds(random.from(0, 200)));
      copy_beside(arrivals.data() + chunk * routed.num_ranks + peer, &turn, sizeof(turn));
    }
  }
  for (int peer = 0; peer < routed.num_ranks; ++peer) {
    if (peer != rank && !carries[peer]) post(gpus, peer, cuda::LineWord::kDone, false);
  }
  std::this_thread::sleep_for(std::chrono::microseconds(random.from(0, 200)));
  EXPECT_EQ(cudaStreamQuery(launch.stream), cudaErrorNotReady) << "it waits for this rank's own copies";
  copy_beside(copied.data(), &kNumber, sizeof(kNumber));
  gpus.finish();
  const std::vector<std::byte> found = output.contents();
  for (std::size_t i = 0; i < found.size(); ++i) {
    ASSERT_EQ(found[i], expected[i]) << to_string(dtype) << ", byte " << i << " of rank " << rank << " of " << routed.num_ranks
                                     << ", rows of " << row_bytes << " bytes, " << launch.num_sms << " blocks";
  }
}

TEST(cuda_reduce_chunks, sums_of_rows_that_come_meanwhile_have_the_bits_of_the_hosts) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(60)) {
    sum_while_chunks_come(seed);
    if (HasFailure()) return;
  }
}

// Of two ranks, of which the second has entered; the first sums nothing, but waits all the same.
void expect_timeout(bool carries, std::uint64_t copied_number, const Failure& expected) {
  GpuRanks gpus(2, 1);
  const DeviceArray<std::int32_t> begin(std::size_t{2});
  const DeviceArray<std::uint64_t> arrivals(std::size_t{2});
  const DeviceArray<std::uint64_t> copied(std::vector<std::uint64_t>{copied_number});
  const DeviceArray<const std::byte*> in_slot(std::size_t{2});
  const DeviceArray<SentBlock> sent(std::size_t{2});
  post(gpus, 1, cuda::LineWord::kEnter, carries);
  gpus.select(0);
  cuda::reduce_chunks({.reduce = {.row_bytes = 16,
                                  .num_ranks = 2,
                                  .in_place = {in_slot.data(), nullptr},
                                  .carried_rows = reinterpret_cast<const std::byte*>(copied.data()),
                                  .sent = sent.data(),
                                  .output = TensorView(nullptr, DataType::kBFloat16, {0, 8}),
                                  .handshake = {.signals = gpus.signals(0, std::chrono::milliseconds(50)),
                                                .entry_wait = cuda::LineWord::kData,
                                                .reads_calls = true,
                                                .entry_phase = Phase::kCombineRows},
                                  .state = gpus.state(0)},
                       .begin = begin.data(),
                       .num_chunks = 1,
                       .arrivals = arrivals.data(),
                       .copies = {copied.data(), kNumber}},
                      {.stream = gpus.stream(0), .num_sms = 2});
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  const Failure found = unpack_failure(gpus.failure(0));
  EXPECT_EQ(found.code, expected.code);
  EXPECT_EQ(found.phase, expected.phase);
  EXPECT_EQ(found.culprit, expected.culprit);
}

TEST(cuda_reduce_chunks, rows_that_do_not_come_are_reported) {
  SKIP_WITHOUT_GPUS(1);
  expect_timeout(true, kNumber, {ErrorCode::kTimeout, Phase::kCombineRows, 1, 0});
}

TEST(cuda_reduce_chunks, peers_that_do_not_read_are_reported) {
  SKIP_WITHOUT_GPUS(1);
  expect_timeout(false, kNumber, {ErrorCode::kTimeout, Phase::kCombineRead, 1, 0});
}

TEST(cuda_reduce_chunks, copies_that_do_not_end_are_reported) {
  SKIP_WITHOUT_GPUS(1);
  GpuRanks gpus(1, 1);
  const DeviceArray<std::int32_t> begin(std::size_t{2});
  const DeviceArray<std::uint64_t> copied(std::size_t{1});
  cuda::reduce_chunks({.reduce = {.row_bytes = 16,
                                  .output = TensorView(nullptr, DataType::kBFloat16, {0, 8}),
                                  .handshake = {.signals = gpus.signals(0, std::chrono::milliseconds(50))},
                                  .state = gpus.state(0)},
                       .begin = begin.data(),
                       .num_chunks = 1,
                       .copies = {copied.data(), kNumber}},
                      {.stream = gpus.stream(0), .num_sms = 2});
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  EXPECT_EQ(unpack_failure(gpus.failure(0)).code, ErrorCode::kTimeout);
}

}  // namespace
}  // namespace tokenyard::test
