#include <algorithm>
#include <cstring>

#include "base/failure_word.hpp"
#include "kernels/cuda/push.hpp"
#include "kernels/host/push.hpp"
#include "layout/segment.hpp"
#include "tests/kernels/cuda/gpu_ranks.hpp"
#include "tests/kernels/cuda/routed_tokens.hpp"
#include "tests/kernels/cuda/seeds.hpp"

namespace tokenyard::test {
namespace {

// A lane's contents on one rank, with strides of its own.
struct StridedLane {
  Lane lane;
  std::int64_t row_stride;
  std::int64_t element_stride;
  std::vector<std::byte> contents;

  ConstTensorView view(const void* data, std::int64_t num_tokens) const {
    return {data, lane.dtype, {num_tokens, lane.num_elements}, {row_stride, element_stride}};
  }
};

StridedLane draw_contents(RandomBits& random, const Lane& lane, std::int64_t num_tokens) {
  StridedLane drawn{.lane = lane, .row_stride = lane.num_elements, .element_stride = 1, .contents = {}};
  if (random.one_in(4)) drawn.row_stride += random.from(1, 20);
  if (random.one_in(4)) {  // columns dense
    drawn.row_stride = 1;
    drawn.element_stride = num_tokens + random.from(0, 3);
  }
  drawn.contents.resize((num_tokens * drawn.row_stride + lane.num_elements * drawn.element_stride) * size_of(lane.dtype));
  for (std::byte& byte : drawn.contents) byte = static_cast<std::byte>(random.next());
  return drawn;
}

std::vector<Lane> draw_lanes(RandomBits& random) {
  if (random.one_in(3)) return long_and_short_lanes(random);
  std::vector<Lane> lanes;
  const DataType dtype = random.pick({DataType::kBFloat16, DataType::kFloat8E4M3, DataType::kFloat32, DataType::kByte});
  const auto per_vector = static_cast<std::int64_t>(16 / size_of(dtype));
  // Rows longer than a stage of the conveyor, too.
  lanes.push_back({.dtype = dtype, .num_elements = per_vector * random.any_magnitude(1, random.one_in(8) ? 4'000 : 400)});
  if (random.one_in(2)) lanes.push_back({.dtype = DataType::kFloat32, .num_elements = random.from(1, 70)});
  if (random.one_in(4)) lanes.push_back({.dtype = DataType::kUE8M0, .num_elements = random.from(1, 40)});
  return lanes;
}

// What a rank needs to announce segments, and those that it receives.
struct SegmentsOnDevice {
  std::shared_ptr<DeviceMemory> own_words;  // [R, segments]
  DeviceArray<std::uint64_t*> words;        // [R]
  DeviceArray<std::uint32_t> num_done;
  DeviceArray<SentBlock> sent;
  DeviceArray<std::int64_t> source_offsets;

  cuda::Segments segments(std::int64_t max_tokens) const {
    return {.words = words.data(), .num_done = num_done.data(), .max_segments = static_cast<int>(num_segments(max_tokens))};
  }
};

std::vector<SegmentsOnDevice> make_segments(const GpuRanks& gpus, const RoutedCase& routed) {
  std::vector<SegmentsOnDevice> all(routed.num_ranks);
  const std::size_t num_words = routed.num_ranks * num_segments(routed.shape.max_tokens);
  std::vector<std::uint64_t*> words;
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    gpus.select(rank);
    all[rank].own_words = gpus.shared_memory(rank, num_words * sizeof(std::uint64_t));
    words.push_back(reinterpret_cast<std::uint64_t*>(all[rank].own_words->data()));
  }
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    std::vector<SentBlock> sent;
    for (const RoutedTokens& peer : routed.ranks) {
      sent.push_back({peer.source_offsets[rank], peer.source_offsets[rank + 1] - peer.source_offsets[rank], 0});
    }
    all[rank].words = gpus.on_device(rank, words);
    all[rank].num_done = DeviceArray<std::uint32_t>(std::vector<std::uint32_t>(num_words));
    all[rank].sent = DeviceArray<SentBlock>(sent);
    all[rank].source_offsets = DeviceArray<std::int64_t>(routed.ranks[rank].source_offsets);
  }
  return all;
}

// All ranks push at once; their windows must end up as the host's do, to the last byte between the rows. Ranks that copy out
// find in their tensors what the host has in the window.
void push_as_the_host_does(std::uint64_t seed, int num_gpus) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  RandomBits random(seed);
  const RoutedCase routed = make_routed_case(random, draw_lanes(random));
  const bool cached = random.one_in(3);
  const bool with_weights = random.one_in(2);
  const bool with_segments = random.one_in(2);
  const bool with_handshake = with_segments || random.one_in(2);
  const bool plain_copies = random.one_in(3);
  const int num_sms = static_cast<int>(random.from(1, 132 / routed.num_ranks));
  const DispatchLayout layout = dispatch_layout(routed.shape, routed.dimensions, routed.capacity);

  GpuRanks gpus(routed.num_ranks, num_gpus);
  constexpr int kPoison = 0xa5;
  std::vector<std::vector<std::byte>> expected(routed.num_ranks, std::vector<std::byte>(layout.num_bytes, std::byte{kPoison}));
  std::vector<std::byte*> host_windows;
  std::vector<std::shared_ptr<DeviceMemory>> memory;
  std::vector<std::byte*> windows;
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    host_windows.push_back(expected[rank].data());
    memory.push_back(gpus.shared_memory(rank, layout.num_bytes));
    windows.push_back(memory[rank]->data());
    gpus.select(rank);
    check_cuda(cudaMemset(windows[rank], kPoison, layout.num_bytes), "cudaMemset");
  }

  struct OnDevice {
    std::vector<DeviceArray<std::byte>> lanes;
    DeviceArray<std::byte*> windows;
    DeviceArray<std::int32_t> fan_out, destination, ordinal, local_idx;
    DeviceArray<std::int64_t> row;
    DeviceArray<float> weights;
    std::vector<DeviceArray<std::byte>> outputs;
    std::vector<TensorView> output_views;  // none: the rows stay in the window
  };
  std::vector<OnDevice> devices;
  std::vector<std::vector<ConstTensorView>> device_lanes(routed.num_ranks);
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    const RoutedTokens& tokens = routed.ranks[rank];
    gpus.select(rank);
    OnDevice device;
    std::vector<ConstTensorView> host_lanes;
    std::vector<StridedLane> drawn;
    for (const Lane& lane : routed.shape.lanes) drawn.push_back(draw_contents(random, lane, tokens.num_tokens));
    for (const StridedLane& lane : drawn) {
      device.lanes.emplace_back(lane.contents);
      host_lanes.push_back(lane.view(lane.contents.data(), tokens.num_tokens));
      device_lanes[rank].push_back(lane.view(device.lanes.back().data(), tokens.num_tokens));
    }
    // The weights stand column by column.
    const auto weights_at = [&](const float* data) {
      return ConstTensorView(data, DataType::kFloat32, {tokens.num_tokens, routed.shape.top_k}, {1, tokens.num_tokens});
    };
    host::push({.lanes = host_lanes,
                .layout = &layout,
                .stores = host::Stores::kCached,
                .windows = host_windows,
                .num_tokens = tokens.num_tokens,
                .max_fan_out = routed.dimensions.max_fan_out,
                .fan_out = tokens.fan_out.data(),
                .destination = tokens.destination.data(),
                .row = tokens.row.data(),
                .top_k = routed.shape.top_k,
                .ordinal = cached ? nullptr : tokens.ordinal.data(),
                .local_idx = tokens.local_idx.data(),
                .topk_weights = with_weights ? weights_at(tokens.weights.data()) : ConstTensorView()});
    device.windows = DeviceArray<std::byte*>(windows);
    device.fan_out = DeviceArray<std::int32_t>(tokens.fan_out);
    device.destination = DeviceArray<std::int32_t>(tokens.destination);
    device.ordinal = DeviceArray<std::int32_t>(tokens.ordinal);
    device.local_idx = DeviceArray<std::int32_t>(tokens.local_idx);
    device.row = DeviceArray<std::int64_t>(tokens.row);
    device.weights = DeviceArray<float>(tokens.weights);
    // Too few rows are no reason to write behind them.
    const std::int64_t num_output_rows = std::max<std::int64_t>(tokens.source_offsets.back() - (random.one_in(6) ? 5 : 0), 1);
    for (const Lane& lane : routed.shape.lanes) {
      device.outputs.emplace_back(std::vector<std::byte>(num_output_rows * lane.row_bytes(), std::byte{kPoison}));
      device.output_views.emplace_back(device.outputs.back().data(), lane.dtype,
                                       std::initializer_list<std::int64_t>{num_output_rows, lane.num_elements});
    }
    if (!with_segments || random.one_in(4) || !cuda::can_copy_out(device.output_views)) device.output_views.clear();
    devices.push_back(std::move(device));
  }
  host::finish_copies();
  std::vector<SegmentsOnDevice> segments;
  if (with_segments) segments = make_segments(gpus, routed);

  gpus.settle();
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    const RoutedTokens& tokens = routed.ranks[rank];
    const OnDevice& device = devices[rank];
    gpus.select(rank);
    cuda::Handshake handshake;
    if (with_handshake) {
      handshake = {.signals = gpus.signals(rank),
                   .header = {.with_segments = !device.output_views.empty()},
                   .entry_post = with_segments ? cuda::LineWord::kEnter : cuda::LineWord::kFree,
                   .entry_wait = with_segments ? cuda::LineWord::kEnter : cuda::LineWord::kFree,
                   .entry_phase = Phase::kDispatchFree,
                   .exit_post = cuda::LineWord::kData,
                   .exit_wait = cuda::LineWord::kData,
                   .exit_phase = Phase::kDispatchRows,
                   .ends_turn = true};
    }
    const ConstTensorView weights(device.weights.data(), DataType::kFloat32, {tokens.num_tokens, routed.shape.top_k},
                                  {1, tokens.num_tokens});
    cuda::PushArgs push{.lanes = device_lanes[rank],
                        .layout = &layout,
                        .windows = device.windows.data(),
                        .rank = rank,
                        .num_ranks = routed.num_ranks,
                        .num_tokens = tokens.num_tokens,
                        .max_fan_out = routed.dimensions.max_fan_out,
                        .fan_out = device.fan_out.data(),
                        .destination = device.destination.data(),
                        .row = device.row.data(),
                        .top_k = routed.shape.top_k,
                        .ordinal = cached ? nullptr : device.ordinal.data(),
                        .local_idx = device.local_idx.data(),
                        .topk_weights = with_weights ? weights : ConstTensorView(),
                        .outputs = device.output_views,
                        .handshake = handshake,
                        .state = gpus.state(rank)};
    if (with_segments) {
      push.segments = segments[rank].segments(routed.shape.max_tokens);
      push.sent = segments[rank].sent.data();
      push.source_offsets = segments[rank].source_offsets.data();
    }
    cuda::push(push, {.stream = gpus.stream(rank), .num_sms = num_sms, .plain_copies = plain_copies});
  }
  gpus.finish();
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    const std::vector<std::int64_t>& offsets = routed.ranks[rank].source_offsets;
    for (std::size_t i = 0; i < devices[rank].output_views.size(); ++i) {
      const std::size_t row_bytes = routed.shape.lanes[i].row_bytes();
      std::byte* const rows = expected[rank].data() + layout.lanes[i];
      const std::vector<std::byte> output = devices[rank].outputs[i].contents();
      const auto num_rows = std::min<std::int64_t>(offsets.back(), devices[rank].output_views[i].shape[0]);
      ASSERT_TRUE(num_rows == 0 || std::memcmp(output.data(), rows, num_rows * row_bytes) == 0)
          << "lane " << i << " of rank " << rank << " of " << routed.num_ranks << ", " << num_sms << " blocks, plain copies "
          << plain_copies;
      // The rank's own rows did not pass through the window.
      std::fill(rows + std::min(offsets[rank], num_rows) * row_bytes, rows + std::min(offsets[rank + 1], num_rows) * row_bytes,
                std::byte{kPoison});
    }
    if (!with_segments) continue;
    const std::vector<std::uint32_t> num_done = segments[rank].num_done.contents();
    EXPECT_EQ(std::count(num_done.begin(), num_done.end(), 0U), std::ssize(num_done)) << "counters are not as they were";
  }
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    std::vector<std::byte> window(layout.num_bytes);
    check_cuda(cudaMemcpy(window.data(), windows[rank], layout.num_bytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
    for (std::size_t i = 0; i < window.size(); ++i) {
      ASSERT_EQ(window[i], expected[rank][i]) << "byte " << i << " of rank " << rank << "'s window, of " << routed.num_ranks
                                              << " ranks, " << num_sms << " blocks, plain copies " << plain_copies;
    }
    if (with_handshake) {
      EXPECT_EQ(gpus.turn(rank), signal_word(1, 2));
    }
  }
}

TEST(cuda_push, windows_of_ranks_on_one_gpu_hold_what_the_host_puts_there) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(100)) {
    push_as_the_host_does(seed, 1);
    if (HasFatalFailure() || HasFailure()) return;
  }
}

TEST(cuda_push, windows_of_ranks_on_two_gpus_hold_what_the_host_puts_there) {
  SKIP_WITHOUT_GPUS(2);
  for (const std::uint64_t seed : seeds(100)) {
    push_as_the_host_does(seed, 2);
    if (HasFatalFailure() || HasFailure()) return;
  }
}

// A push of no tokens is a handshake and nothing else.
void push_nothing(const GpuRanks& gpus, int rank, const cuda::Handshake& handshake) {
  const DispatchLayout layout{};
  gpus.select(rank);
  cuda::push(
      {.layout = &layout, .rank = rank, .num_ranks = gpus.num_ranks(), .handshake = handshake, .state = gpus.state(rank)},
      {.stream = gpus.stream(rank), .num_sms = 2});
}

cuda::Handshake meeting(const cuda::Signals& signals) {
  return {.signals = signals,
          .exit_post = cuda::LineWord::kData,
          .exit_wait = cuda::LineWord::kData,
          .exit_phase = Phase::kDispatchRows,
          .ends_turn = true};
}

TEST(cuda_signals, a_peer_that_does_not_come_is_named_within_the_deadline_and_all_are_told) {
  SKIP_WITHOUT_GPUS(1);
  GpuRanks gpus(3, 1);
  // Rank 1 stays away.
  for (const int rank : {0, 2}) push_nothing(gpus, rank, meeting(gpus.signals(rank, std::chrono::milliseconds(50))));
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  for (const int rank : {0, 1, 2}) {
    const Failure failure = unpack_failure(gpus.failure(rank));
    EXPECT_NE(gpus.failure(rank), 0);
    EXPECT_EQ(failure.code, ErrorCode::kTimeout);
    EXPECT_EQ(failure.phase, Phase::kDispatchRows);
    EXPECT_EQ(failure.culprit, 1);
    EXPECT_NE(failure.reporter, 1);
  }
}

TEST(cuda_signals, after_a_failure_kernels_post_and_wait_for_nothing) {
  SKIP_WITHOUT_GPUS(1);
  GpuRanks gpus(2, 1);
  push_nothing(gpus, 0, meeting(gpus.signals(0, std::chrono::milliseconds(20))));
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  const std::uint64_t failure = gpus.failure(1);
  ASSERT_NE(failure, 0);
  // With the long deadline a wait would show.
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < 3; ++i) push_nothing(gpus, 1, meeting(gpus.signals(1)));
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_EQ(gpus.failure(1), failure);
  EXPECT_EQ(gpus.failure(0), failure);
}

TEST(cuda_signals, a_peer_that_is_a_turn_ahead_is_a_disagreement) {
  SKIP_WITHOUT_GPUS(1);
  GpuRanks gpus(2, 1);
  gpus.set_turn(1, signal_word(1, 2));
  push_nothing(gpus, 1, meeting(gpus.signals(1, std::chrono::milliseconds(200))));
  push_nothing(gpus, 0, meeting(gpus.signals(0)));
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  const Failure failure = unpack_failure(gpus.failure(0));
  EXPECT_EQ(failure.code, ErrorCode::kDisagreement);
  EXPECT_EQ(failure.culprit, 1);
}

TEST(cuda_signals, turns_follow_each_other_without_the_host) {
  SKIP_WITHOUT_GPUS(1);
  GpuRanks gpus(4, count_gpus() < 2 ? 1 : 2);
  for (int turn = 0; turn < 200; ++turn) {
    for (int rank = 0; rank < 4; ++rank) {
      // With one word alone a rank could be a turn ahead before another has looked at it.
      cuda::Handshake handshake = meeting(gpus.signals(rank));
      handshake.entry_post = handshake.entry_wait = cuda::LineWord::kEnter;
      push_nothing(gpus, rank, handshake);
    }
  }
  gpus.finish();
  for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(gpus.turn(rank), signal_word(1, 201));
}

TEST(cuda_signals, reach_more_ranks_than_a_warp_has_lanes) {
  SKIP_WITHOUT_GPUS(2);  // one has not queues enough
  constexpr int kNumRanks = 40;
  GpuRanks gpus(kNumRanks, 2);
  for (int turn = 0; turn < 5; ++turn) {
    for (int rank = 0; rank < kNumRanks; ++rank) {
      cuda::Handshake handshake = meeting(gpus.signals(rank));
      handshake.entry_post = handshake.entry_wait = cuda::LineWord::kEnter;
      handshake.checks_headers = true;
      push_nothing(gpus, rank, handshake);
    }
  }
  gpus.finish();
  for (int rank = 0; rank < kNumRanks; ++rank) EXPECT_EQ(gpus.turn(rank), signal_word(1, 6));
}

}  // namespace
}  // namespace tokenyard::test
