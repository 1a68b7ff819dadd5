// Times the CUDA kernels on two GPUs against their goals and floors: usage: cuda_kernel_bench [ITERATIONS]
//
// Both GPUs work at once. Before every measured launch their second caches are flushed and they meet, so both begin within a
// microsecond. A time is from event to event around one launch, entry handshake, signals and the wait for the peer included; of
// each iteration the slower GPU counts, of the iterations the median.

#include <cuda_runtime_api.h>
#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/numeric.hpp"
#include "kernels/cuda/count.hpp"
#include "kernels/cuda/group_by_expert.hpp"
#include "kernels/cuda/index_rows.hpp"
#include "kernels/cuda/place.hpp"
#include "kernels/cuda/push.hpp"
#include "kernels/cuda/quantize.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/host/reduce.hpp"
#include "memory/gpus.hpp"
#include "tests/kernels/cuda/device_placement.hpp"
#include "tests/kernels/cuda/gpu_ranks.hpp"
#include "tests/kernels/cuda/routed_tokens.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 2;
constexpr std::size_t kFlushBytes = 256 << 20;

struct Load {
  const char* name;
  std::int64_t num_tokens;
  std::int64_t hidden;
  int num_experts;
  bool float8;  // with a float32 scale per 128 values; otherwise bfloat16
};

struct Variant {
  int num_sms;
  bool plain;
  double push_goal;  // us; 0: none is stated
  double reduce_goal;
};

RoutedCase make_case(const Load& load) {
  RandomBits random(load.num_tokens * 7 + load.hidden);
  Shape shape;
  shape.num_experts = load.num_experts;
  shape.top_k = 8;
  shape.max_tokens = load.num_tokens;
  if (load.float8) {
    shape.lanes = {{.dtype = DataType::kFloat8E4M3, .num_elements = load.hidden},
                   {.dtype = DataType::kFloat32, .num_elements = load.hidden / 128}};
  } else {
    shape.lanes = {{.dtype = DataType::kBFloat16, .num_elements = load.hidden}};
  }
  RoutedCase routed{.shape = shape, .num_ranks = kNumRanks, .placement = Placement({}, shape.num_experts, kNumRanks)};
  routed.ranks.resize(kNumRanks);
  std::vector<std::int64_t> experts(shape.num_experts);
  for (int expert = 0; expert < shape.num_experts; ++expert) experts[expert] = expert;
  for (RoutedTokens& tokens : routed.ranks) {
    tokens.num_tokens = load.num_tokens;
    for (std::int64_t token = 0; token < load.num_tokens; ++token) {
      for (int k = 0; k < shape.top_k; ++k) {
        std::swap(experts[k], experts[random.from(k, shape.num_experts - 1)]);
        tokens.ids.push_back(experts[k]);
      }
    }
    tokens.weights.resize(tokens.ids.size());
  }
  route(&routed);
  return routed;
}

std::vector<std::byte> random_bfloat16(std::uint64_t seed, std::size_t num_elements) {
  RandomBits random(seed);
  std::vector<std::byte> bytes(num_elements * 2);
  for (std::size_t i = 0; i < num_elements; ++i) {
    const auto value = static_cast<float>(static_cast<std::int32_t>(random.next())) * 0x1p-30F;
    const std::uint16_t code = numeric::float_to_bfloat16(value);
    std::memcpy(bytes.data() + 2 * i, &code, sizeof(code));
  }
  return bytes;
}

// Two GPUs, and what is measured on them.
class Bench {
 public:
  explicit Bench(int num_iterations) : num_iterations_(num_iterations), gpus_(kNumRanks, kNumRanks) {
    for (int rank = 0; rank < kNumRanks; ++rank) {
      gpus_.select(rank);
      flush_[rank] = DeviceArray<std::byte>(kFlushBytes);
      for (int i = 0; i < num_iterations_; ++i) {
        for (int end = 0; end < 2; ++end) {
          cudaEvent_t event = nullptr;
          check_cuda(cudaEventCreate(&event), "cudaEventCreate");
          events_[rank].push_back(event);
        }
      }
    }
  }

  const GpuRanks& gpus() const { return gpus_; }

  // The median of the slower GPU's times, in microseconds.
  double time(const std::function<void(int rank)>& launch) {
    for (int iteration = -3; iteration < num_iterations_; ++iteration) {
      for (int rank = 0; rank < kNumRanks; ++rank) {
        gpus_.select(rank);
        const cudaStream_t stream = gpus_.stream(rank);
        check_cuda(cudaMemsetAsync(flush_[rank].data(), iteration & 0xff, kFlushBytes, stream), "cudaMemsetAsync");
        meet(rank);
        if (iteration >= 0) check_cuda(cudaEventRecord(events_[rank][2 * iteration], stream), "cudaEventRecord");
        launch(rank);
        if (iteration >= 0) check_cuda(cudaEventRecord(events_[rank][2 * iteration + 1], stream), "cudaEventRecord");
      }
    }
    gpus_.finish();
    std::vector<double> times;
    for (int iteration = 0; iteration < num_iterations_; ++iteration) {
      double slower = 0;
      for (int rank = 0; rank < kNumRanks; ++rank) {
        float milliseconds = 0;
        check_cuda(cudaEventElapsedTime(&milliseconds, events_[rank][2 * iteration], events_[rank][2 * iteration + 1]),
                   "cudaEventElapsedTime");
        slower = std::max(slower, milliseconds * 1e3);
      }
      times.push_back(slower);
    }
    std::nth_element(times.begin(), times.begin() + num_iterations_ / 2, times.end());
    return times[num_iterations_ / 2];
  }

  // GB/s of the copy engines, both directions at once.
  double copy_engine_rate() {
    std::array<std::shared_ptr<DeviceMemory>, kNumRanks> memory;
    for (int rank = 0; rank < kNumRanks; ++rank) memory[rank] = gpus_.shared_memory(rank, kFlushBytes);
    const double microseconds = time([&](int rank) {
      check_cuda(cudaMemcpyAsync(memory[1 - rank]->data(), flush_[rank].data(), kFlushBytes, cudaMemcpyDeviceToDevice,
                                 gpus_.stream(rank)),
                 "cudaMemcpyAsync");
    });
    return static_cast<double>(kFlushBytes) / microseconds / 1e3;
  }

  // A launch that moves nothing, with and without a handshake: what every measured time contains.
  double empty_time(bool with_handshake) {
    return time([&](int rank) {
      const DispatchLayout layout{};
      cuda::push({.layout = &layout,
                  .rank = rank,
                  .num_ranks = kNumRanks,
                  .handshake = with_handshake ? push_handshake(rank) : cuda::Handshake{},
                  .state = gpus_.state(rank)},
                 {.stream = gpus_.stream(rank), .num_sms = 16});
    });
  }

  cuda::Handshake push_handshake(int rank) const {
    return {.signals = gpus_.signals(rank),
            .entry_post = cuda::LineWord::kFree,
            .entry_wait = cuda::LineWord::kFree,
            .entry_phase = Phase::kDispatchFree,
            .exit_post = cuda::LineWord::kData,
            .exit_wait = cuda::LineWord::kData,
            .exit_phase = Phase::kDispatchRows,
            .ends_turn = true};
  }

  cuda::Handshake reduce_handshake(int rank) const {
    return {.signals = gpus_.signals(rank),
            .header = {.kind = CallKind::kCombine, .in_place_slot = 0},
            .entry_post = cuda::LineWord::kEnter,
            .posts_data_at_entry = true,
            .entry_wait = cuda::LineWord::kData,
            .reads_calls = true,
            .entry_phase = Phase::kCombineRows,
            .exit_post = cuda::LineWord::kDone,
            .exit_wait = cuda::LineWord::kDone,
            .exit_phase = Phase::kCombineRead,
            .ends_turn = true};
  }

 private:
  void meet(int rank) const {
    const DispatchLayout layout{};
    cuda::push({.layout = &layout,
                .rank = rank,
                .num_ranks = kNumRanks,
                .handshake = {.signals = gpus_.signals(rank, std::chrono::seconds(20), 1),
                              .exit_post = cuda::LineWord::kData,
                              .exit_wait = cuda::LineWord::kData,
                              .exit_phase = Phase::kBarrier,
                              .ends_turn = true},
                .state = gpus_.state(rank)},
               {.stream = gpus_.stream(rank), .num_sms = 1});
  }

  int num_iterations_;
  GpuRanks gpus_;
  std::array<DeviceArray<std::byte>, kNumRanks> flush_;
  std::array<std::vector<cudaEvent_t>, kNumRanks> events_;
};

void print_row(const Load& load, const char* step, const Variant& variant, double microseconds, double goal, double wire_bytes,
               double rate, const char* check) {
  const double floor = wire_bytes / rate / 1e3;
  fmt::print("| {} | {} | {}{} | {:.1f} | {} | {:.1f} | {:.2f} | {:.0f} | {} |\n", load.name, step, variant.num_sms,
             variant.plain ? " plain" : "", microseconds,
             goal > 0 ? fmt::format("{:.0f}{}", goal, microseconds <= goal ? "" : " MISSED") : "-", floor, microseconds / floor,
             wire_bytes / microseconds / 1e3, check);
}

// Rows of the two ranks that cross the link, the larger number of them.
double crossing_rows(const RoutedCase& routed) { return std::max(routed.matrix[1], routed.matrix[2]); }

struct OnDevice {
  std::vector<DeviceArray<std::byte>> lanes;
  DeviceArray<std::byte*> windows;
  DeviceArray<const std::byte*> in_place;
  DeviceArray<std::int32_t> fan_out, destination;
  DeviceArray<std::int64_t> row;
  DeviceArray<std::byte> output;
};

void run_load(Bench& bench, const Load& load, const std::vector<Variant>& variants, double rate) {
  const GpuRanks& gpus = bench.gpus();
  const RoutedCase routed = make_case(load);
  const DispatchLayout layout = dispatch_layout(routed.shape, routed.dimensions, routed.capacity);
  std::array<std::shared_ptr<DeviceMemory>, kNumRanks> memory;
  std::vector<std::byte*> windows;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    memory[rank] = gpus.shared_memory(rank, layout.num_bytes);
    windows.push_back(memory[rank]->data());
  }
  std::array<OnDevice, kNumRanks> devices;
  std::array<std::vector<std::vector<std::byte>>, kNumRanks> contents;
  double row_bytes = 0;
  for (const Lane& lane : routed.shape.lanes) row_bytes += static_cast<double>(lane.row_bytes());
  for (int rank = 0; rank < kNumRanks; ++rank) {
    const RoutedTokens& tokens = routed.ranks[rank];
    gpus.select(rank);
    OnDevice& device = devices[rank];
    for (const Lane& lane : routed.shape.lanes) {
      contents[rank].push_back(random_bfloat16(rank + 1, load.num_tokens * lane.row_bytes() / 2));
      device.lanes.emplace_back(contents[rank].back());
    }
    device.windows = DeviceArray<std::byte*>(windows);
    std::vector<const std::byte*> in_place;
    for (const std::byte* window : windows) in_place.push_back(window + layout.lanes[0]);
    device.in_place = DeviceArray<const std::byte*>(in_place);
    device.fan_out = DeviceArray<std::int32_t>(tokens.fan_out);
    device.destination = DeviceArray<std::int32_t>(tokens.destination);
    device.row = DeviceArray<std::int64_t>(tokens.row);
    device.output = DeviceArray<std::byte>(load.num_tokens * load.hidden * 2);
  }

  const auto push = [&](const Variant& variant, int rank) {
    std::vector<ConstTensorView> lanes;
    for (std::size_t i = 0; i < routed.shape.lanes.size(); ++i) {
      const Lane& lane = routed.shape.lanes[i];
      lanes.emplace_back(devices[rank].lanes[i].data(), lane.dtype,
                         std::initializer_list<std::int64_t>{load.num_tokens, lane.num_elements});
    }
    cuda::push({.lanes = lanes,
                .layout = &layout,
                .windows = devices[rank].windows.data(),
                .rank = rank,
                .num_ranks = kNumRanks,
                .num_tokens = load.num_tokens,
                .max_fan_out = routed.dimensions.max_fan_out,
                .fan_out = devices[rank].fan_out.data(),
                .destination = devices[rank].destination.data(),
                .row = devices[rank].row.data(),
                .handshake = bench.push_handshake(rank),
                .state = gpus.state(rank)},
               {.stream = gpus.stream(rank), .num_sms = variant.num_sms, .plain_copies = variant.plain});
  };
  // Every row that rank 0 received, against what was sent.
  const auto pushed_well = [&] {
    gpus.select(0);
    bool is_well = true;
    for (std::size_t i = 0; i < routed.shape.lanes.size(); ++i) {
      const std::size_t lane_bytes = routed.shape.lanes[i].row_bytes();
      std::vector<std::byte> received(routed.ranks[0].source_offsets.back() * lane_bytes);
      check_cuda(cudaMemcpy(received.data(), windows[0] + layout.lanes[i], received.size(), cudaMemcpyDeviceToHost),
                 "cudaMemcpy");
      for (int source = 0; source < kNumRanks; ++source) {
        const RoutedTokens& tokens = routed.ranks[source];
        for (std::int64_t token = 0; token < load.num_tokens; ++token) {
          if (tokens.destination[token * kNumRanks] != 0) continue;
          is_well = is_well && std::memcmp(received.data() + tokens.row[token * kNumRanks] * lane_bytes,
                                           contents[source][i].data() + token * lane_bytes, lane_bytes) == 0;
        }
      }
    }
    check_cuda(cudaMemset(windows[0], 0xee, layout.num_bytes), "cudaMemset");
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    return is_well;
  };
  const double wire_bytes = crossing_rows(routed) * row_bytes;
  for (const Variant& variant : variants) {
    const double microseconds = bench.time([&](int rank) { push(variant, rank); });
    print_row(load, "push", variant, microseconds, variant.push_goal, wire_bytes, rate, pushed_well() ? "right" : "WRONG");
    std::fflush(stdout);
  }
  if (load.float8) return;

  // The received rows stand for what the experts put out.
  bench.time([&](int rank) { push(variants[0], rank); });
  std::array<std::vector<std::byte>, kNumRanks> outputs;
  std::vector<const std::byte*> in_place;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    outputs[rank].resize(routed.ranks[rank].source_offsets.back() * load.hidden * 2);
    check_cuda(cudaMemcpy(outputs[rank].data(), windows[rank] + layout.lanes[0], outputs[rank].size(), cudaMemcpyDeviceToHost),
               "cudaMemcpy");
    in_place.push_back(outputs[rank].data());
  }
  const RoutedTokens& tokens = routed.ranks[0];
  std::vector<std::byte> expected(load.num_tokens * load.hidden * 2);
  const std::vector<std::uint8_t> absent(kNumRanks, 0);
  host::reduce({.dtype = DataType::kBFloat16,
                .row_bytes = static_cast<std::size_t>(load.hidden) * 2,
                .stores = host::Stores::kCached,
                .returned_row_bytes = static_cast<std::size_t>(load.hidden) * 2,
                .as_float8 = false,
                .num_tokens = load.num_tokens,
                .max_fan_out = kNumRanks,
                .fan_out = tokens.fan_out.data(),
                .destination = tokens.destination.data(),
                .row = tokens.row.data(),
                .absent = absent,
                .places = return_places(routed.shape, routed.dimensions),
                .returned_rows = nullptr,
                .in_place = in_place,
                .biases = {},
                .output = TensorView(expected.data(), DataType::kBFloat16, {load.num_tokens, load.hidden}),
                .top_k = 8,
                .ordinal = nullptr,
                .returned_weights = nullptr,
                .weights = {}});
  for (const Variant& variant : variants) {
    const double microseconds = bench.time([&](int rank) {
      cuda::reduce({.dtype = DataType::kBFloat16,
                    .row_bytes = static_cast<std::size_t>(load.hidden) * 2,
                    .num_tokens = load.num_tokens,
                    .max_fan_out = kNumRanks,
                    .num_ranks = kNumRanks,
                    .fan_out = devices[rank].fan_out.data(),
                    .destination = devices[rank].destination.data(),
                    .row = devices[rank].row.data(),
                    .in_place = {devices[rank].in_place.data(), nullptr},
                    .rank = rank,
                    .own_rows = windows[rank] + layout.lanes[0],
                    .output = TensorView(devices[rank].output.data(), DataType::kBFloat16, {load.num_tokens, load.hidden}),
                    .handshake = bench.reduce_handshake(rank),
                    .state = gpus.state(rank)},
                   {.stream = gpus.stream(rank), .num_sms = variant.num_sms, .plain_copies = variant.plain});
    });
    gpus.select(0);
    const bool is_well = devices[0].output.contents() == expected;
    devices[0].output.assign(std::vector<std::byte>(expected.size(), std::byte{0xee}));
    print_row(load, "reduce", variant, microseconds, variant.reduce_goal, wire_bytes, rate, is_well ? "right" : "WRONG");
    std::fflush(stdout);
  }
}

// Counting and placing the ids of 4,096 tokens.
void run_counts(Bench& bench) {
  const GpuRanks& gpus = bench.gpus();
  const RoutedCase routed = make_case({"", 4096, 7168, 256, false});
  struct Device {
    DeviceArray<std::int64_t> ids, row, source_offsets;
    DeviceArray<cuda::PlaceTotals> totals;
    DeviceArray<std::int32_t> fan_out, destination, ordinal, local_idx, chunk_positions, matrix, announced;
    DeviceArray<std::int32_t*> all_rank_counts, all_expert_counts;
    DeviceArray<std::byte> workspace;
    std::unique_ptr<DevicePlacement> placement;
  };
  std::array<Device, kNumRanks> devices;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    const RoutedTokens& tokens = routed.ranks[rank];
    gpus.select(rank);
    Device& device = devices[rank];
    device.ids = DeviceArray<std::int64_t>(tokens.ids);
    device.row = DeviceArray<std::int64_t>(tokens.row.size());
    device.source_offsets = DeviceArray<std::int64_t>(kNumRanks + 1);
    device.totals = DeviceArray<cuda::PlaceTotals>(1);
    device.fan_out = DeviceArray<std::int32_t>(tokens.fan_out.size());
    device.destination = DeviceArray<std::int32_t>(tokens.destination.size());
    device.ordinal = DeviceArray<std::int32_t>(tokens.ordinal.size());
    device.local_idx = DeviceArray<std::int32_t>(tokens.local_idx.size());
    device.chunk_positions = DeviceArray<std::int32_t>(kNumRanks * cuda::count_chunks(tokens.num_tokens, routed.shape.top_k));
    device.matrix = DeviceArray<std::int32_t>(routed.matrix);
    device.announced = DeviceArray<std::int32_t>(routed.ranks[rank].expert_counts.size());
    std::vector<std::int32_t*> rank_counts(kNumRanks);
    std::vector<std::int32_t*> expert_counts(kNumRanks);
    rank_counts[rank] = device.matrix.data();
    expert_counts[rank] = device.announced.data();
    device.all_rank_counts = DeviceArray<std::int32_t*>(rank_counts);
    device.all_expert_counts = DeviceArray<std::int32_t*>(expert_counts);
    device.workspace = DeviceArray<std::byte>(cuda::count_workspace_bytes(kNumRanks, routed.dimensions.max_local_experts));
    device.placement = std::make_unique<DevicePlacement>(routed.placement);
  }
  const auto count = [&](int rank) {
    const Device& device = devices[rank];
    cuda::count({.topk_idx = {device.ids.data(), DataType::kInt64, {routed.ranks[rank].num_tokens, routed.shape.top_k}},
                 .placement = device.placement->view(),
                 .rank = rank,
                 .num_ranks = kNumRanks,
                 .max_fan_out = kNumRanks,
                 .max_local_experts = routed.dimensions.max_local_experts,
                 .fan_out = device.fan_out.data(),
                 .destination = device.destination.data(),
                 .ordinal = device.ordinal.data(),
                 .local_idx = device.local_idx.data(),
                 .row = device.row.data(),
                 .chunk_positions = device.chunk_positions.data(),
                 .rank_counts = device.all_rank_counts.data(),
                 .expert_counts = device.all_expert_counts.data(),
                 .workspace = device.workspace.data()},
                {.stream = gpus.stream(rank), .num_sms = 16});
  };
  const auto place = [&](int rank) {
    const Device& device = devices[rank];
    cuda::place({.rank_counts = device.matrix.data(),
                 .expert_counts = device.announced.data(),
                 .max_local_experts = routed.dimensions.max_local_experts,
                 .rank = rank,
                 .num_ranks = kNumRanks,
                 .capacity = routed.capacity,
                 .num_tokens = routed.ranks[rank].num_tokens,
                 .max_fan_out = kNumRanks,
                 .fan_out = device.fan_out.data(),
                 .destination = device.destination.data(),
                 .row = device.row.data(),
                 .chunk_positions = device.chunk_positions.data(),
                 .chunk_tokens = cuda::count_chunk_tokens(routed.shape.top_k),
                 .source_offsets = device.source_offsets.data(),
                 .num_local_experts = routed.placement.num_local_experts(rank),
                 .totals = device.totals.data()},
                {.stream = gpus.stream(rank), .num_sms = 16});
  };
  fmt::print("\n4,096 x 8 ids, 16 SMs: count {:.1f} us, place {:.1f} us\n", bench.time(count), bench.time(place));
}

// What a receiver does between the rows' arrival and their expansion, and what a source does to send FP8.
void run_indexing(Bench& bench) {
  constexpr int kNumSms = 16;
  constexpr std::int64_t kNumTokens = 4096;
  constexpr std::int64_t kHidden = 7168;
  constexpr int kAlignment = 128;
  const GpuRanks& gpus = bench.gpus();
  const Load load{"", kNumTokens, kHidden, 256, false};
  const RoutedCase routed = make_case(load);
  const int top_k = routed.shape.top_k;
  const int num_experts = routed.dimensions.max_local_experts;
  struct Device {
    std::int64_t num_rows = 0;
    std::int64_t num_expanded_rows = 0;
    DeviceArray<std::int64_t> source_offsets, counts, dropped, offsets, expanded_row, expert_source_offsets;
    DeviceArray<std::int32_t> window_idx, window_token, window_ordinal, idx, token, ordinal, announced, workspace;
    DeviceArray<std::int32_t> gather_idx, expanded_token;
    DeviceArray<float> window_weights, weights, expanded_weights, scales;
    DeviceArray<std::byte> values, codes;
  };
  std::array<Device, kNumRanks> devices;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    gpus.select(rank);
    const ReceivedTokens received = received_by(routed, rank);
    Device& device = devices[rank];
    device.num_rows = received.num_rows;
    const std::int64_t num_pairs = received.num_rows * top_k;
    device.num_expanded_rows = num_pairs + static_cast<std::int64_t>(num_experts) * kAlignment;
    device.source_offsets = DeviceArray<std::int64_t>(routed.ranks[rank].source_offsets);
    for (DeviceArray<std::int64_t>* array : {&device.counts, &device.dropped}) *array = DeviceArray<std::int64_t>(num_experts);
    device.offsets = DeviceArray<std::int64_t>(num_experts + 1);
    device.expanded_row = DeviceArray<std::int64_t>(num_pairs);
    device.expert_source_offsets = DeviceArray<std::int64_t>(num_experts * (kNumRanks + 1));
    device.window_idx = DeviceArray<std::int32_t>(received.topk_idx);
    device.window_token = DeviceArray<std::int32_t>(received.source_token);
    device.window_ordinal = DeviceArray<std::int32_t>(received.ordinal);
    device.idx = DeviceArray<std::int32_t>(num_pairs);
    device.token = DeviceArray<std::int32_t>(received.num_rows);
    device.ordinal = DeviceArray<std::int32_t>(received.num_rows);
    device.announced = DeviceArray<std::int32_t>(kNumRanks * num_experts);
    device.workspace = DeviceArray<std::int32_t>(kNumSms * num_experts);
    device.gather_idx = DeviceArray<std::int32_t>(device.num_expanded_rows);
    device.expanded_token = DeviceArray<std::int32_t>(device.num_expanded_rows);
    device.window_weights = DeviceArray<float>(num_pairs);
    device.weights = DeviceArray<float>(num_pairs);
    device.expanded_weights = DeviceArray<float>(device.num_expanded_rows);
    device.scales = DeviceArray<float>(kNumTokens * kHidden / kScaleBlock);
    device.values = DeviceArray<std::byte>(random_bfloat16(rank, kNumTokens * kHidden));
    device.codes = DeviceArray<std::byte>(kNumTokens * kHidden);
  }
  const auto launch_on = [&](int rank, int num_sms) { return cuda::Launch{.stream = gpus.stream(rank), .num_sms = num_sms}; };
  enum class Counts { kLater, kHere, kAsAnnounced };
  const auto collect = [&](int rank, Counts counts) {
    const Device& device = devices[rank];
    cuda::CollectRowsArgs args{.all_arrive = counts == Counts::kAsAnnounced,
                               .top_k = top_k,
                               .num_local_experts = num_experts,
                               .num_ranks = kNumRanks,
                               .source_offsets = device.source_offsets.data(),
                               .received_topk_idx = device.window_idx.data(),
                               .received_topk_weights = device.window_weights.data(),
                               .received_source_token = device.window_token.data(),
                               .received_ordinal = device.window_ordinal.data(),
                               .num_view_rows = device.num_rows,
                               .topk_idx = device.idx.data(),
                               .topk_weights = device.weights.data(),
                               .source_token = device.token.data(),
                               .ordinal = device.ordinal.data()};
    if (counts != Counts::kLater) {
      args.announced_counts = device.announced.data();
      args.max_local_experts = num_experts;
      args.expert_counts = device.counts.data();
      args.expert_dropped = device.dropped.data();
      args.workspace = device.workspace.data();
      args.state = gpus.state(rank);
    }
    cuda::collect_rows(args, launch_on(rank, kNumSms));
  };
  const auto group = [&](int rank) {
    const Device& device = devices[rank];
    cuda::group_by_expert({.layout = Layout::kExpertContiguous,
                           .alignment = kAlignment,
                           .num_local_experts = num_experts,
                           .top_k = top_k,
                           .topk_idx = device.idx.data(),
                           .num_ranks = kNumRanks,
                           .source_offsets = device.source_offsets.data(),
                           .expert_counts = device.counts.data(),
                           .expert_offsets = device.offsets.data(),
                           .expanded_row = device.expanded_row.data(),
                           .expert_source_offsets = device.expert_source_offsets.data(),
                           .workspace = device.workspace.data()},
                          launch_on(rank, kNumSms));
  };
  const auto index = [&](int rank) {
    const Device& device = devices[rank];
    cuda::index_expanded({.top_k = top_k,
                          .num_local_experts = num_experts,
                          .num_ranks = kNumRanks,
                          .source_offsets = device.source_offsets.data(),
                          .source_token = device.token.data(),
                          .topk_weights = device.weights.data(),
                          .expert_counts = device.counts.data(),
                          .expert_offsets = device.offsets.data(),
                          .announced_counts = device.announced.data(),
                          .max_local_experts = num_experts,
                          .expert_dropped = device.dropped.data(),
                          .num_view_rows = device.num_rows,
                          .expanded_row = device.expanded_row.data(),
                          .num_expanded_view_rows = device.num_expanded_rows,
                          .gather_idx = device.gather_idx.data(),
                          .expanded_source_token = device.expanded_token.data(),
                          .expanded_weights = device.expanded_weights.data()},
                         launch_on(rank, kNumSms));
  };
  const double collected = bench.time([&](int rank) { collect(rank, Counts::kLater); });
  const double counted = bench.time([&](int rank) { collect(rank, Counts::kHere); });
  const double announced = bench.time([&](int rank) { collect(rank, Counts::kAsAnnounced); });
  const double grouped = bench.time(group);
  const double indexed = bench.time(index);
  fmt::print(
      "{} rows x {} ids, {} local experts, {} SMs: collect_rows {:.1f} us, counting {:.1f} us, with announced "
      "counts {:.1f} us, group_by_expert {:.1f} us, index_expanded {:.1f} us\n",
      devices[0].num_rows, top_k, num_experts, kNumSms, collected, counted, announced, grouped, indexed);
  for (const int num_sms : {16, 24, 132}) {
    const double microseconds = bench.time([&](int rank) {
      const Device& device = devices[rank];
      cuda::quantize({.values = {device.values.data(), DataType::kBFloat16, {kNumTokens, kHidden}},
                      .format = ScaleFormat::kFloat32,
                      .quantized = {device.codes.data(), DataType::kFloat8E4M3, {kNumTokens, kHidden}},
                      .scales = tensor(device.scales.data(), {kNumTokens, kHidden / kScaleBlock})},
                     launch_on(rank, num_sms));
    });
    fmt::print("{} x {} bfloat16, {} SMs: quantize {:.1f} us, {:.0f} GB/s of memory\n", kNumTokens, kHidden, num_sms,
               microseconds, static_cast<double>(kNumTokens * kHidden) * 3 / microseconds * 1e-3);
  }
}

int run(int num_iterations) {
  if (count_gpus() < kNumRanks) {
    fmt::print("two GPUs are needed, and {} are visible\n", count_gpus());
    return 1;
  }
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  const PeerAccess access = peer_access(0, 1);
  fmt::print("{} x 2, {} multiprocessors, peer access {} {}, {} iterations\n", properties.name, properties.multiProcessorCount,
             access.is_possible, access.reason, num_iterations);
  Bench bench(num_iterations);
  const double rate = bench.copy_engine_rate();
  fmt::print(
      "copy engines, both directions, 256 MiB: {:.0f} GB/s; a launch that only shakes hands: {:.1f} us, without: {:.1f} us\n\n",
      rate, bench.empty_time(true), bench.empty_time(false));
  fmt::print("| load | step | SMs | us | goal | floor us | of the floor | GB/s on the link | rows |\n");
  fmt::print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | --- |\n");
  run_load(
      bench, {"4,096 x 7,168 bf16", 4096, 7168, 256, false},
      {{16, false, 180, 190}, {12, false, 200, 212}, {24, false, 0, 0}, {8, false, 0, 0}, {16, true, 0, 0}, {24, true, 0, 0}},
      rate);
  run_load(bench, {"4,096 x 7,168 fp8", 4096, 7168, 256, true}, {{16, false, 98, 0}, {12, false, 106, 0}, {16, true, 0, 0}},
           rate);
  run_load(bench, {"8,192 x 7,168 bf16", 8192, 7168, 256, false}, {{16, false, 355, 375}}, rate);
  run_load(bench, {"1,024 x 7,168 bf16", 1024, 7168, 256, false}, {{16, false, 52, 58}, {24, false, 0, 0}}, rate);
  run_load(bench, {"4,096 x 2,048 bf16", 4096, 2048, 128, false}, {{16, false, 62, 68}, {24, false, 0, 0}}, rate);
  run_counts(bench);
  run_indexing(bench);
  return 0;
}

}  // namespace
}  // namespace tokenyard::test

int main(int argc, char** argv) {
  try {
    return tokenyard::test::run(argc > 1 ? std::max(1, std::atoi(argv[1])) : 30);
  } catch (const std::exception& error) {
    fmt::print("{}\n", error.what());
    return 1;
  }
}
