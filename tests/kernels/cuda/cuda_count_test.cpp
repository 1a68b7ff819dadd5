#include "base/failure_word.hpp"
#include "kernels/cuda/count.hpp"
#include "kernels/cuda/place.hpp"
#include "tests/kernels/cuda/device_placement.hpp"
#include "tests/kernels/cuda/gpu_ranks.hpp"
#include "tests/kernels/cuda/routed_tokens.hpp"
#include "tests/kernels/cuda/seeds.hpp"

namespace tokenyard::test {
namespace {

// Ids as some framework may give them: of either type, rows or columns dense.
struct DeviceIds {
  DeviceArray<std::int64_t> long_ids;
  DeviceArray<std::int32_t> short_ids;
  ConstTensorView view;
};

DeviceIds put_ids(RandomBits& random, const std::vector<std::int64_t>& ids, std::int64_t num_tokens, std::int64_t top_k) {
  const std::int64_t gap = random.one_in(2) ? 0 : random.from(1, 5);
  const bool by_columns = random.one_in(3);
  const std::int64_t token_stride = by_columns ? 1 : top_k + gap;
  const std::int64_t k_stride = by_columns ? num_tokens + gap : 1;
  std::vector<std::int64_t> strided(num_tokens * (top_k + gap) + top_k * (num_tokens + gap), -7);
  for (std::int64_t token = 0; token < num_tokens; ++token) {
    for (std::int64_t k = 0; k < top_k; ++k) strided[token * token_stride + k * k_stride] = ids[token * top_k + k];
  }
  DeviceIds put;
  const bool is_long = random.one_in(2);
  if (is_long) {
    put.long_ids = DeviceArray<std::int64_t>(strided);
  } else {
    put.short_ids = DeviceArray<std::int32_t>(std::vector<std::int32_t>(strided.begin(), strided.end()));
  }
  const void* data = is_long ? static_cast<const void*>(put.long_ids.data()) : put.short_ids.data();
  put.view = {data, is_long ? DataType::kInt64 : DataType::kInt32, {num_tokens, top_k}, {token_stride, k_stride}};
  return put;
}

std::int64_t num_chunk_positions(const RoutedCase& routed, const RoutedTokens& tokens) {
  return routed.num_ranks * cuda::count_chunks(tokens.num_tokens, routed.shape.top_k);
}

// Where count and place of a rank write, and what they share with others.
struct DeviceRouting {
  DeviceArray<std::int32_t> fan_out, destination, ordinal, local_idx, chunk_positions, rank_counts, expert_counts, announced;
  DeviceArray<std::int32_t*> all_rank_counts, all_expert_counts;
  DeviceArray<std::int64_t> row, source_offsets;
  DeviceArray<cuda::PlaceTotals> totals;
  DeviceArray<SentBlock> sent, received;
  DeviceArray<std::byte> workspace;

  DeviceRouting(const RoutedCase& routed, int rank) {
    const RoutedTokens& tokens = routed.ranks[rank];
    fan_out = DeviceArray<std::int32_t>(tokens.fan_out.size());
    destination = DeviceArray<std::int32_t>(std::vector<std::int32_t>(tokens.destination.size(), -1));
    row = DeviceArray<std::int64_t>(std::vector<std::int64_t>(tokens.row.size(), -1));
    ordinal = DeviceArray<std::int32_t>(tokens.ordinal.size());
    local_idx = DeviceArray<std::int32_t>(tokens.local_idx.size());
    chunk_positions = DeviceArray<std::int32_t>(num_chunk_positions(routed, tokens));
    rank_counts = DeviceArray<std::int32_t>(std::vector<std::int32_t>(routed.matrix.size(), -1));
    const std::size_t num_counts = static_cast<std::size_t>(routed.num_ranks) * routed.dimensions.max_local_experts;
    expert_counts = DeviceArray<std::int32_t>(std::vector<std::int32_t>(num_counts, -1));
    announced = DeviceArray<std::int32_t>(num_counts);
    source_offsets = DeviceArray<std::int64_t>(tokens.source_offsets.size());
    totals = DeviceArray<cuda::PlaceTotals>(1);
    sent = DeviceArray<SentBlock>(tokens.rank_counts.size());
    received = DeviceArray<SentBlock>(tokens.rank_counts.size());
    workspace = DeviceArray<std::byte>(cuda::count_workspace_bytes(routed.num_ranks, routed.dimensions.max_local_experts));
  }
};

std::vector<DeviceRouting> on_device(const RoutedCase& routed) {
  std::vector<DeviceRouting> devices;
  std::vector<std::int32_t*> rank_counts;
  std::vector<std::int32_t*> expert_counts;
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    DeviceRouting& device = devices.emplace_back(routed, rank);
    rank_counts.push_back(device.rank_counts.data());
    expert_counts.push_back(device.expert_counts.data());
  }
  for (DeviceRouting& device : devices) {
    device.all_rank_counts = DeviceArray<std::int32_t*>(rank_counts);
    device.all_expert_counts = DeviceArray<std::int32_t*>(expert_counts);
  }
  return devices;
}

// One handshake for both.
cuda::Handshake exchange(const GpuRanks& gpus, int rank) {
  return {.signals = gpus.signals(rank),
          .header = {.kind = CallKind::kDispatch},
          .entry_post = cuda::LineWord::kEnter,
          .entry_wait = cuda::LineWord::kEnter,
          .checks_headers = true,
          .entry_phase = Phase::kDispatchCounts};
}

// The host's positions, as the device tells them: those of chunks apart.
void expect_positions(const DeviceRouting& device, const RoutedCase& routed, const RoutedTokens& tokens) {
  const std::int64_t chunk_tokens = cuda::count_chunk_tokens(routed.shape.top_k);
  const std::int64_t num_chunks = cuda::count_chunks(tokens.num_tokens, routed.shape.top_k);
  std::vector<std::int64_t> positions = tokens.position;
  std::vector<std::int32_t> chunk_positions(num_chunk_positions(routed, tokens));
  std::vector<std::int32_t> num_before(routed.num_ranks);
  for (std::int64_t token = 0; token < tokens.num_tokens; ++token) {
    const std::int64_t chunk = token / chunk_tokens;
    const auto in_chunk = [&](int rank) -> std::int32_t& { return chunk_positions[rank * num_chunks + chunk]; };
    for (int rank = 0; token % chunk_tokens == 0 && rank < routed.num_ranks; ++rank) in_chunk(rank) = num_before[rank];
    for (int o = 0; o < tokens.fan_out[token]; ++o) {
      const std::int64_t entry = token * routed.dimensions.max_fan_out + o;
      positions[entry] -= in_chunk(tokens.destination[entry]);
      ++num_before[tokens.destination[entry]];
    }
  }
  EXPECT_EQ(device.row.contents(), positions);
  EXPECT_EQ(device.chunk_positions.contents(), chunk_positions);
}

void expect_counted(const DeviceRouting& device, const RoutedCase& routed, const RoutedTokens& tokens) {
  EXPECT_EQ(device.fan_out.contents(), tokens.fan_out);
  EXPECT_EQ(device.destination.contents(), tokens.destination);
  expect_positions(device, routed, tokens);
  EXPECT_EQ(device.ordinal.contents(), tokens.ordinal);
  EXPECT_EQ(device.local_idx.contents(), tokens.local_idx);
}

enum class Tells : std::uint8_t { kNobody, kAll };

void count_on_device(const GpuRanks& gpus, const RoutedCase& routed, int rank, const ConstTensorView& ids,
                     const DevicePlacement& placement, const DeviceRouting& device, int num_sms, Tells tells) {
  cuda::Handshake nothing{.signals = gpus.signals(rank)};
  cuda::count({.topk_idx = ids,
               .placement = placement.view(),
               .rank = rank,
               .num_ranks = routed.num_ranks,
               .max_fan_out = routed.dimensions.max_fan_out,
               .max_local_experts = routed.dimensions.max_local_experts,
               .fan_out = device.fan_out.data(),
               .destination = device.destination.data(),
               .ordinal = device.ordinal.data(),
               .local_idx = device.local_idx.data(),
               .row = device.row.data(),
               .chunk_positions = device.chunk_positions.data(),
               .rank_counts = tells == Tells::kAll ? device.all_rank_counts.data() : nullptr,
               .expert_counts = tells == Tells::kAll ? device.all_expert_counts.data() : nullptr,
               .handshake = tells == Tells::kAll ? exchange(gpus, rank) : nothing,
               .workspace = device.workspace.data()},
              {.stream = gpus.stream(rank), .num_sms = num_sms});
}

// Rows of every rank for the experts of `rank`.
std::vector<std::int32_t> announced_to(const RoutedCase& routed, int rank) {
  const int max_local_experts = routed.dimensions.max_local_experts;
  std::vector<std::int32_t> announced;
  for (const RoutedTokens& tokens : routed.ranks) {
    const auto first = tokens.expert_counts.begin() + rank * max_local_experts;
    announced.insert(announced.end(), first, first + max_local_experts);
  }
  return announced;
}

std::int64_t expanded_rows(const std::vector<std::int32_t>& announced, int max_local_experts, int num_local_experts,
                           int alignment) {
  std::int64_t num_expanded_rows = 0;
  for (int expert = 0; expert < num_local_experts; ++expert) {
    std::int64_t num_rows = 0;
    for (std::size_t i = expert; i < announced.size(); i += max_local_experts) num_rows += announced[i];
    num_expanded_rows += aligned_rows(num_rows, alignment);
  }
  return num_expanded_rows;
}

// Of the rows that `source` sends to `destination`, all of which fit.
void expect_block(const SentBlock& block, const RoutedCase& routed, int source, int destination) {
  const auto count = [&](int from, int to) -> std::int64_t { return routed.matrix[from * routed.num_ranks + to]; };
  std::int64_t first_row = 0;
  for (int before = 0; before < source; ++before) first_row += count(before, destination);
  std::int64_t staged_row = 0;
  for (int before = 0; before < destination; ++before) staged_row += before == source ? 0 : count(source, before);
  EXPECT_EQ(block.first_row, first_row) << source << " to " << destination;
  EXPECT_EQ(block.staged_row, staged_row) << source << " to " << destination;
  if (first_row + count(source, destination) <= routed.capacity) {
    EXPECT_EQ(block.num_rows, count(source, destination)) << source << " to " << destination;
  }
}

// The most rows that any rank is sent.
std::int64_t most_rows(const RoutedCase& routed) {
  std::int64_t most = 0;
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    std::int64_t num_rows = 0;
    for (int source = 0; source < routed.num_ranks; ++source) num_rows += routed.matrix[source * routed.num_ranks + rank];
    most = std::max(most, num_rows);
  }
  return most;
}

void expect_placed(const RoutedCase& routed, int rank, const DeviceRouting& device, int alignment) {
  const RoutedTokens& tokens = routed.ranks[rank];
  const int max_local_experts = routed.dimensions.max_local_experts;
  const std::vector<std::int32_t> announced = announced_to(routed, rank);
  EXPECT_EQ(device.rank_counts.contents(), routed.matrix);
  EXPECT_EQ(device.expert_counts.contents(), announced);
  EXPECT_EQ(device.announced.contents(), announced);
  EXPECT_EQ(device.row.contents(), tokens.row);
  EXPECT_EQ(device.source_offsets.contents(), tokens.source_offsets);
  const cuda::PlaceTotals totals = device.totals.contents()[0];
  EXPECT_EQ(totals.max_recv_rows, most_rows(routed));
  EXPECT_EQ(std::min(totals.num_recv_rows, routed.capacity), tokens.source_offsets.back());
  const int num_local_experts = routed.placement.num_local_experts(rank);
  EXPECT_EQ(totals.num_expanded_rows,
            alignment == 0 ? 0 : expanded_rows(announced, max_local_experts, num_local_experts, alignment));
  EXPECT_EQ(totals.ticket, 7);
  for (int peer = 0; peer < routed.num_ranks; ++peer) {
    expect_block(device.sent.contents()[peer], routed, rank, peer);
    if (peer != rank) expect_block(device.received.contents()[peer], routed, peer, rank);
  }
}

// Every rank counts twice over one workspace and tells the others the second time, then places.
void count_and_place_as_the_host_does(std::uint64_t seed, const CaseLimits& limits) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  RandomBits random(seed);
  const RoutedCase routed = make_routed_case(random, {{.dtype = DataType::kByte, .num_elements = 16}}, limits);
  const GpuRanks gpus(routed.num_ranks, 1);
  const DevicePlacement placement(routed.placement);
  const std::vector<DeviceRouting> devices = on_device(routed);
  std::vector<DeviceIds> ids;
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    const RoutedTokens& tokens = routed.ranks[rank];
    ids.push_back(put_ids(random, tokens.ids, tokens.num_tokens, routed.shape.top_k));
    for (const Tells tells : {Tells::kNobody, Tells::kAll}) {
      count_on_device(gpus, routed, rank, ids.back().view, placement, devices[rank], static_cast<int>(random.from(1, 20)),
                      tells);
    }
  }
  gpus.finish();
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    SCOPED_TRACE(testing::Message() << "rank " << rank);
    const RoutedTokens& tokens = routed.ranks[rank];
    const DeviceRouting& device = devices[rank];
    expect_counted(device, routed, tokens);
    const int alignment = random.pick({0, 1, 16, 128});
    cuda::place({.rank_counts = device.rank_counts.data(),
                 .expert_counts = device.expert_counts.data(),
                 .max_local_experts = routed.dimensions.max_local_experts,
                 .rank = rank,
                 .num_ranks = routed.num_ranks,
                 .capacity = routed.capacity,
                 .num_tokens = tokens.num_tokens,
                 .max_fan_out = routed.dimensions.max_fan_out,
                 .fan_out = device.fan_out.data(),
                 .destination = device.destination.data(),
                 .row = device.row.data(),
                 .chunk_positions = device.chunk_positions.data(),
                 .chunk_tokens = cuda::count_chunk_tokens(routed.shape.top_k),
                 .source_offsets = device.source_offsets.data(),
                 .announced_counts = device.announced.data(),
                 .num_local_experts = routed.placement.num_local_experts(rank),
                 .expert_alignment = alignment,
                 .totals = device.totals.data(),
                 .ticket = 7,
                 .sent = device.sent.data(),
                 .host_received = device.received.data(),
                 .handshake = exchange(gpus, rank)},
                {.stream = gpus.stream(rank), .num_sms = static_cast<int>(random.from(1, 20))});
    check_cuda(cudaStreamSynchronize(gpus.stream(rank)), "cudaStreamSynchronize");
    EXPECT_EQ(gpus.failure(rank), 0);
    expect_placed(routed, rank, device, alignment);
    if (testing::Test::HasFailure()) return;
  }
}

TEST(cuda_count, count_and_place_find_what_the_host_finds) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(60)) {
    count_and_place_as_the_host_does(seed, {.max_ranks = 12, .max_tokens = 3'000, .max_top_k = 32});
    if (HasFailure()) return;
  }
}

TEST(cuda_count, counts_of_more_experts_than_shared_memory_holds) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(4)) {
    count_and_place_as_the_host_does(seed, {.max_tokens = 1'000, .min_experts = 24'000, .max_experts = 30'000});
    if (HasFailure()) return;
  }
}

TEST(cuda_count, bad_ids_count_as_none_and_all_ranks_are_told) {
  SKIP_WITHOUT_GPUS(1);
  RandomBits random(5);
  RoutedCase routed = make_routed_case(random, {{.dtype = DataType::kByte, .num_elements = 16}});
  RoutedTokens& tokens = routed.ranks[0];
  tokens.num_tokens = routed.shape.max_tokens;
  tokens.ids.assign(tokens.num_tokens * routed.shape.top_k, -1);
  tokens.weights.assign(tokens.ids.size(), 0.0F);
  for (std::size_t i = 0; i < tokens.ids.size(); i += 3) tokens.ids[i] = 0;
  route(&routed);
  std::vector<std::int64_t> bad_ids = tokens.ids;
  for (std::size_t i = 1; i < bad_ids.size(); i += 3) {
    bad_ids[i] = i % 2 == 0 ? routed.shape.num_experts : -2 - static_cast<std::int64_t>(i);
  }
  const GpuRanks gpus(routed.num_ranks, 1);
  const DevicePlacement placement(routed.placement);
  const DeviceArray<std::int64_t> ids(bad_ids);
  const std::vector<DeviceRouting> devices = on_device(routed);
  const DeviceRouting& device = devices[0];
  count_on_device(gpus, routed, 0, {ids.data(), DataType::kInt64, {tokens.num_tokens, routed.shape.top_k}}, placement, device,
                  4, Tells::kAll);
  check_cuda(cudaStreamSynchronize(gpus.stream(0)), "cudaStreamSynchronize");
  expect_counted(device, routed, tokens);
  for (int rank = 0; rank < routed.num_ranks; ++rank) EXPECT_NE(gpus.failure(rank), 0) << "rank " << rank << " is not told";
  const Failure seen = unpack_failure(gpus.failure(0));
  EXPECT_EQ(seen.code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(seen.phase, Phase::kDispatchCounts);
  EXPECT_EQ(seen.culprit, 0);
  // It does not enter, nor does it say how much it would send.
  const std::vector<std::int32_t> untold(routed.matrix.size(), -1);
  for (const DeviceRouting& one : devices) EXPECT_EQ(one.rank_counts.contents(), untold);
  for (int rank = 1; rank < routed.num_ranks; ++rank) EXPECT_EQ(gpus.entered(rank, 0), 0) << "at rank " << rank;
}

}  // namespace
}  // namespace tokenyard::test
