#include <algorithm>
#include <numeric>

#include "base/deadline.hpp"
#include "kernels/cuda/meet.hpp"
#include "kernels/cuda/pack_rows.hpp"
#include "kernels/host/push.hpp"
#include "tests/kernels/cuda/gpu_ranks.hpp"
#include "tests/kernels/cuda/routed_tokens.hpp"
#include "tests/kernels/cuda/seeds.hpp"

namespace tokenyard::test {
namespace {

constexpr std::uint64_t kNumber = 7;  // of the packing

std::vector<Lane> draw_lanes(RandomBits& random) {
  if (random.one_in(3)) return long_and_short_lanes(random);
  std::vector<Lane> lanes;
  const DataType dtype = random.pick({DataType::kBFloat16, DataType::kFloat8E4M3, DataType::kFloat32});
  const auto per_vector = static_cast<std::int64_t>(16 / size_of(dtype));
  // Rows longer than a stage of the conveyor, too.
  lanes.push_back({.dtype = dtype, .num_elements = per_vector * random.any_magnitude(1, random.one_in(4) ? 2'000 : 300)});
  if (random.one_in(2)) lanes.push_back({.dtype = DataType::kFloat32, .num_elements = random.from(1, 70)});
  return lanes;
}

Chunks draw_chunks(RandomBits& random) {
  Chunks chunks;
  chunks.num_chunks = static_cast<int>(random.from(1, Chunks::kMaxChunks));
  for (int chunk = 0; chunk < chunks.num_chunks; ++chunk) {
    const int previous = chunk == 0 ? -1 : chunks.ends[chunk - 1];
    const int most = Chunks::kNumParts - (chunks.num_chunks - 1 - chunk);
    chunks.ends[chunk] = chunk + 1 == chunks.num_chunks ? most : static_cast<int>(random.from(previous + 1, most));
  }
  return chunks;
}

// What a rank sends: rows that are dropped stand behind those that are not.
std::vector<SentBlock> blocks_of(const RoutedCase& routed, int rank) {
  const RoutedTokens& tokens = routed.ranks[rank];
  const int max_fan_out = routed.dimensions.max_fan_out;
  std::vector<SentBlock> blocks(routed.num_ranks, SentBlock{0, 0, 0});
  for (std::int64_t token = 0; token < tokens.num_tokens; ++token) {
    for (int ordinal = 0; ordinal < tokens.fan_out[token]; ++ordinal) {
      const std::int64_t entry = token * max_fan_out + ordinal;
      if (tokens.row[entry] < 0) continue;
      SentBlock& block = blocks[tokens.destination[entry]];
      if (block.num_rows++ == 0) block.first_row = tokens.row[entry];
    }
  }
  std::int64_t staged_row = 0;
  for (int destination = 0; destination < routed.num_ranks; ++destination) {
    blocks[destination].staged_row = staged_row;
    if (destination != rank) staged_row += blocks[destination].num_rows;
  }
  return blocks;
}

struct Array {
  std::size_t offset;
  std::size_t row_bytes;
};
std::vector<Array> arrays_of(const Shape& shape, const DispatchLayout& layout, bool cached, bool with_weights) {
  std::vector<Array> arrays;
  for (std::size_t i = 0; i < shape.lanes.size(); ++i) arrays.push_back({layout.lanes[i], shape.lanes[i].row_bytes()});
  if (cached) return arrays;
  const auto top_k = static_cast<std::size_t>(shape.top_k);
  arrays.push_back({layout.topk_idx, top_k * 4});
  if (with_weights) arrays.push_back({layout.topk_weights, top_k * 4});
  arrays.push_back({layout.source_token, 4});
  arrays.push_back({layout.ordinal, 4});
  return arrays;
}

// Of a single rank of many: its rows stand as they do in the windows that the host has pushed them to, or side by side as they
// do there.
void pack_what_the_host_pushes(std::uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  RandomBits random(seed);
  const RoutedCase routed = make_routed_case(random, draw_lanes(random), {.max_ranks = random.one_in(6) ? 45 : 8});
  const int rank = static_cast<int>(random.from(0, routed.num_ranks - 1));
  const bool cached = random.one_in(3);
  const bool with_weights = random.one_in(2);
  const RoutedTokens& tokens = routed.ranks[rank];
  const std::vector<SentBlock> blocks = blocks_of(routed, rank);
  const std::int64_t num_staged = blocks.back().staged_row + (rank + 1 == routed.num_ranks ? 0 : blocks.back().num_rows);
  const DispatchLayout layout = dispatch_layout(routed.shape, routed.dimensions, routed.capacity);
  const DispatchLayout staged = dispatch_layout(routed.shape, routed.dimensions, std::max<std::int64_t>(num_staged, 1));

  GpuRanks gpus(1, 1);
  std::vector<std::vector<std::byte>> windows(routed.num_ranks, std::vector<std::byte>(layout.num_bytes));
  std::vector<std::byte*> window_data;
  for (auto& window : windows) window_data.push_back(window.data());
  std::vector<std::vector<std::byte>> contents;
  std::vector<DeviceArray<std::byte>> on_device;
  std::vector<ConstTensorView> host_lanes;
  std::vector<ConstTensorView> device_lanes;
  for (const Lane& lane : routed.shape.lanes) {
    const std::int64_t row_stride = lane.num_elements + (random.one_in(4) ? random.from(1, 20) : 0);
    auto& bytes = contents.emplace_back(static_cast<std::size_t>(tokens.num_tokens * row_stride) * size_of(lane.dtype));
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
    on_device.emplace_back(bytes);
    const auto view = [&](const void* data) {
      return ConstTensorView(data, lane.dtype, {tokens.num_tokens, lane.num_elements}, {row_stride, 1});
    };
    host_lanes.push_back(view(bytes.data()));
    device_lanes.push_back(view(on_device.back().data()));
  }
  const DeviceArray<float> device_weights(tokens.weights);
  const auto weights_at = [&](const float* data) {
    return with_weights ? ConstTensorView(data, DataType::kFloat32, {tokens.num_tokens, routed.shape.top_k})
                        : ConstTensorView();
  };
  host::push({.lanes = host_lanes,
              .layout = &layout,
              .stores = host::Stores::kCached,
              .windows = window_data,
              .num_tokens = tokens.num_tokens,
              .max_fan_out = routed.dimensions.max_fan_out,
              .fan_out = tokens.fan_out.data(),
              .destination = tokens.destination.data(),
              .row = tokens.row.data(),
              .top_k = routed.shape.top_k,
              .ordinal = cached ? nullptr : tokens.ordinal.data(),
              .local_idx = tokens.local_idx.data(),
              .topk_weights = weights_at(tokens.weights.data())});
  host::finish_copies();

  const DeviceArray<std::byte> staging(staged.num_bytes);
  std::vector<DeviceArray<std::byte>> device_windows;
  std::vector<std::byte*> addresses;
  for (int peer = 0; peer < routed.num_ranks; ++peer) {
    addresses.push_back(device_windows.emplace_back(layout.num_bytes).data());
  }
  const DeviceArray<std::byte*> window_addresses(addresses);
  const DeviceArray<std::int32_t> fan_out(tokens.fan_out);
  const DeviceArray<std::int32_t> destination(tokens.destination);
  const DeviceArray<std::int64_t> row(tokens.row);
  const DeviceArray<std::int32_t> ordinal(tokens.ordinal);
  const DeviceArray<std::int32_t> local_idx(tokens.local_idx);
  const DeviceArray<SentBlock> sent(blocks);
  const DeviceArray<std::uint64_t> words(std::size_t{PackOrder::kMaxPieces});
  const DeviceArray<cuda::PackState> state(std::size_t{1});
  cuda::PackArgs args{.lanes = device_lanes,
                      .staging = {staging.data(), staged},
                      .layout = &layout,
                      .windows = window_addresses.data(),
                      .rank = rank,
                      .num_ranks = routed.num_ranks,
                      .num_tokens = tokens.num_tokens,
                      .max_fan_out = routed.dimensions.max_fan_out,
                      .fan_out = fan_out.data(),
                      .destination = destination.data(),
                      .row = row.data(),
                      .sent = sent.data(),
                      .top_k = routed.shape.top_k,
                      .ordinal = cached ? nullptr : ordinal.data(),
                      .local_idx = local_idx.data(),
                      .topk_weights = weights_at(device_weights.data()),
                      .chunks = draw_chunks(random),
                      .piece_words = words.data(),
                      .copies = {.number = kNumber},
                      .state = gpus.state(0),
                      .pack_state = state.data()};
  const int num_sms = static_cast<int>(random.from(1, 24));
  cuda::pack_rows(args, {.stream = gpus.stream(0), .num_sms = num_sms, .plain_copies = random.one_in(3)});
  gpus.finish();

  const std::vector<std::byte> packed = staging.contents();
  const std::vector<Array> at = arrays_of(routed.shape, layout, cached, with_weights);
  const std::vector<Array> staged_at = arrays_of(routed.shape, staged, cached, with_weights);
  const PackOrder order = PackOrder::of(rank, routed.num_ranks, args.chunks);
  for (int peer = 0; peer < routed.num_ranks; ++peer) {
    const SentBlock& block = blocks[peer];
    const std::int64_t num_stored = peer == rank ? block.num_rows : order.num_stored(order.pass_of(peer), block.num_rows);
    const std::vector<std::byte> stored = device_windows[peer].contents();
    std::vector<std::byte> expected(stored.size());  // nothing but these rows
    for (std::size_t array = 0; array < at.size(); ++array) {
      const std::size_t row_bytes = at[array].row_bytes;
      const std::size_t first = at[array].offset + block.first_row * row_bytes;
      const std::size_t first_packed = first + num_stored * row_bytes;
      std::copy(windows[peer].begin() + first, windows[peer].begin() + first_packed, expected.begin() + first);
      const std::byte* found = packed.data() + staged_at[array].offset + (block.staged_row + num_stored) * row_bytes;
      const std::size_t num_bytes = (block.num_rows - num_stored) * row_bytes;
      const std::size_t num_right = std::mismatch(found, found + num_bytes, windows[peer].data() + first_packed).first - found;
      ASSERT_EQ(num_right, num_bytes) << "packed bytes of array " << array << " from rank " << rank << " for " << peer
                                      << ", of " << routed.num_ranks << " ranks, " << num_sms << " blocks";
    }
    const std::size_t num_right = std::mismatch(stored.begin(), stored.end(), expected.begin()).first - stored.begin();
    ASSERT_EQ(num_right, stored.size()) << "bytes of the window of rank " << peer << " from rank " << rank << ", of "
                                        << routed.num_ranks << " ranks, " << num_sms << " blocks";
  }
  for (int piece = PackOrder::kFirstPacked; piece < order.num_pieces(); ++piece) EXPECT_EQ(words.contents()[piece], kNumber);
  const cuda::PackState left = state.contents()[0];
  for (const std::uint32_t num_packed : left.num_packed) EXPECT_EQ(num_packed, 0U);
  EXPECT_EQ(left.num_blocks_done, 0U);
}

TEST(cuda_pack_rows, blocks_hold_what_the_host_pushes) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(100)) {
    pack_what_the_host_pushes(seed);
    if (HasFatalFailure() || HasFailure()) return;
  }
}

// Rank 0 has 64 tokens, each with a long row and a short one, which go to rank 1: 16 are stored there, and the others packed.
class TokensForRank1 {
 public:
  static constexpr Chunks kChunks{.num_chunks = 2, .ends = {16, 64}};

  cuda::PackArgs args() {
    return {.lanes = lanes_,
            .staging = {staging_.data(), layout_},
            .layout = &layout_,
            .windows = windows_.data(),
            .num_ranks = 2,
            .num_tokens = kNumTokens,
            .max_fan_out = 1,
            .fan_out = fan_out_.data(),
            .destination = fan_out_.data(),
            .row = row_.data(),
            .sent = sent_.data(),
            .chunks = kChunks,
            .piece_words = words_.data(),
            .pack_state = state_.data()};
  }
  std::uint64_t word() const { return words_.contents()[PackOrder::kFirstPacked]; }
  std::uint64_t word_of_stored() const { return words_.contents()[PackOrder::kStoredPiece]; }
  cuda::PackState state() const { return state_.contents()[0]; }

  bool is_nothing_stored() const { return window_.contents() == std::vector<std::byte>(kNumBytes); }
  bool is_nothing_packed() const { return staging_.contents() == std::vector<std::byte>(kNumBytes); }
  bool is_all_stored() const { return window_.contents() == rows_of(0, kNumStored); }
  bool is_all_packed() const { return staging_.contents() == rows_of(kNumStored, kNumTokens); }

 private:
  static constexpr std::int64_t kNumTokens = 64;
  static constexpr std::int64_t kNumStored = 16;
  static constexpr std::int64_t kRowBytes[] = {2048, 48};
  static constexpr std::size_t kNumBytes = kNumTokens * (2048 + 48);

  static std::vector<std::byte> make_values() {
    std::vector<std::byte> values(kNumBytes);
    for (std::size_t i = 0; i < kNumBytes; ++i) values[i] = static_cast<std::byte>(i % 255 + 1);
    return values;
  }
  static DispatchLayout make_layout() {
    DispatchLayout layout{};
    layout.lanes[1] = kNumTokens * kRowBytes[0];
    return layout;
  }
  static std::vector<std::int64_t> make_rows() {
    std::vector<std::int64_t> rows(kNumTokens);
    std::iota(rows.begin(), rows.end(), 0);
    return rows;
  }
  ConstTensorView lane(int idx) const {
    return {lanes_data_.data() + layout_.lanes[idx], DataType::kByte, {kNumTokens, kRowBytes[idx]}};
  }
  // The others are zero.
  std::vector<std::byte> rows_of(std::int64_t begin, std::int64_t end) const {
    std::vector<std::byte> rows(kNumBytes);
    for (int i = 0; i < 2; ++i) {
      const auto first = static_cast<std::ptrdiff_t>(layout_.lanes[i]);
      std::copy(values_.begin() + first + begin * kRowBytes[i], values_.begin() + first + end * kRowBytes[i],
                rows.begin() + first + begin * kRowBytes[i]);
    }
    return rows;
  }

  const DispatchLayout layout_ = make_layout();
  const std::vector<std::byte> values_ = make_values();
  const DeviceArray<std::byte> lanes_data_{values_};
  const std::vector<ConstTensorView> lanes_{lane(0), lane(1)};
  const DeviceArray<std::byte> staging_{kNumBytes};
  const DeviceArray<std::byte> window_{kNumBytes};
  const DeviceArray<std::byte*> windows_{std::vector<std::byte*>{nullptr, window_.data()}};
  const DeviceArray<std::int32_t> fan_out_{std::vector<std::int32_t>(kNumTokens, 1)};  // and destinations
  const DeviceArray<std::int64_t> row_{make_rows()};
  const DeviceArray<SentBlock> sent_{std::vector<SentBlock>{{0, 0, 0}, {0, kNumTokens, 0}}};
  const DeviceArray<std::uint64_t> words_{std::size_t{PackOrder::kMaxPieces}};
  const DeviceArray<cuda::PackState> state_{std::size_t{1}};
};

// Streams wait for the words: they come in any case, behind the news of the failure. Nothing is stored at a peer that has not
// come.
TEST(cuda_pack_rows, words_come_also_where_a_peer_does_not) {
  SKIP_WITHOUT_GPUS(1);
  for (const bool plain_copies : {false, true}) {
    GpuRanks gpus(2, 1);  // rank 1 stays away
    TokensForRank1 tokens;
    cuda::PackArgs args = tokens.args();
    args.handshake = {.signals = gpus.signals(0, std::chrono::milliseconds(50)),
                      .entry_post = cuda::LineWord::kFree,
                      .entry_wait = cuda::LineWord::kFree,
                      .entry_phase = Phase::kDispatchFree};
    args.state = gpus.state(0);
    for (std::uint64_t number = 1; number <= 2; ++number) {  // the second time the failure is known from the start
      args.copies = {.number = number};
      gpus.select(0);
      cuda::pack_rows(args, {.stream = gpus.stream(0), .num_sms = 3, .plain_copies = plain_copies});
      check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
      EXPECT_NE(gpus.failure(0), 0);
      EXPECT_EQ(tokens.word(), number);
      EXPECT_EQ(tokens.word_of_stored(), number);
      EXPECT_EQ(tokens.state().num_blocks_done, 0U);
      EXPECT_TRUE(tokens.is_nothing_stored());
    }
  }
}

// What is stored at a peer comes behind its word, what is packed does not wait for that.
TEST(cuda_pack_rows, rows_are_stored_when_the_peer_has_come) {
  SKIP_WITHOUT_GPUS(1);
  for (const bool plain_copies : {false, true}) {
    GpuRanks gpus(2, 1);
    TokensForRank1 tokens;
    cuda::PackArgs args = tokens.args();
    args.handshake = {.signals = gpus.signals(0),
                      .entry_wait = cuda::LineWord::kFree,
                      .entry_phase = Phase::kDispatchFree,
                      .exit_post = cuda::LineWord::kData};
    args.copies = {.number = kNumber};
    args.state = gpus.state(0);
    gpus.select(0);
    cuda::pack_rows(args, {.stream = gpus.stream(0), .num_sms = 3, .plain_copies = plain_copies});
    for (const Deadline deadline(std::chrono::seconds(10)); !tokens.is_all_packed();) ASSERT_FALSE(deadline.passed());
    EXPECT_TRUE(tokens.is_nothing_stored());
    EXPECT_NE(tokens.word(), kNumber);
    gpus.select(1);
    cuda::meet({.handshake = {.signals = gpus.signals(1),
                              .entry_post = cuda::LineWord::kFree,
                              .entry_wait = cuda::LineWord::kData,
                              .entry_phase = Phase::kDispatchRows},
                .state = gpus.state(1)},
               {.stream = gpus.stream(1)});
    gpus.finish();
    EXPECT_EQ(tokens.word(), kNumber);
    EXPECT_TRUE(tokens.is_all_stored());
    EXPECT_TRUE(tokens.is_all_packed());
  }
}

// An exception on the host may keep copies away: peers are told nothing then.
TEST(cuda_pack_rows, data_is_announced_only_behind_copies) {
  SKIP_WITHOUT_GPUS(1);
  for (const bool are_there : {true, false}) {
    GpuRanks gpus(2, 1);
    const DeviceArray<std::uint64_t> words(std::size_t{PackOrder::kMaxPieces});
    const DeviceArray<std::uint64_t> copied(std::vector<std::uint64_t>{are_there ? kNumber : cuda::kNoCopies});
    const DeviceArray<cuda::PackState> state(std::size_t{1});
    const DeviceArray<SentBlock> sent(std::size_t{2});
    const DispatchLayout layout{};
    gpus.select(0);
    cuda::pack_rows({.layout = &layout,
                     .num_ranks = 2,
                     .sent = sent.data(),
                     .chunks = TokensForRank1::kChunks,
                     .piece_words = words.data(),
                     .copies = {copied.data(), kNumber},
                     .handshake = {.signals = gpus.signals(0), .exit_post = cuda::LineWord::kData},
                     .state = gpus.state(0),
                     .pack_state = state.data()},
                    {.stream = gpus.stream(0), .num_sms = 3});
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    cuda::meet({.handshake = {.signals = gpus.signals(1, std::chrono::milliseconds(50)),
                              .entry_wait = cuda::LineWord::kData,
                              .entry_phase = Phase::kDispatchRows},
                .state = gpus.state(1)},
               {.stream = gpus.stream(1)});
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    EXPECT_EQ(gpus.failure(1) == 0, are_there);
  }
}

// A dispatch is packed before the host knows whether its rows fit: if they do not, it is packed again.
TEST(cuda_pack_rows, nothing_moves_behind_a_closed_gate) {
  SKIP_WITHOUT_GPUS(1);
  GpuRanks gpus(2, 1);
  TokensForRank1 tokens;
  cuda::PackArgs args = tokens.args();
  args.state = gpus.state(0);
  for (const std::uint32_t is_open : {0U, 1U}) {
    const DeviceArray<std::uint32_t> gate(std::vector<std::uint32_t>{is_open});
    args.copies = {.number = 1 + is_open};
    args.handshake = {.signals = gpus.signals(0, std::chrono::milliseconds(50)), .gate = gate.data()};
    gpus.select(0);
    cuda::pack_rows(args, {.stream = gpus.stream(0), .num_sms = 2});
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    EXPECT_TRUE(is_open != 0 ? tokens.is_all_stored() : tokens.is_nothing_stored());
    EXPECT_TRUE(is_open != 0 ? tokens.is_all_packed() : tokens.is_nothing_packed());
    EXPECT_EQ(gpus.failure(0), 0);
    EXPECT_EQ(tokens.word(), 1 + is_open);
  }
}

}  // namespace
}  // namespace tokenyard::test
