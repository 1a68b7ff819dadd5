// group_by_expert, expand, zero_gaps and fold: from received rows to expert layouts and back to contributions.

#include <algorithm>

#include "kernels/cuda/expand.hpp"
#include "kernels/cuda/fold.hpp"
#include "kernels/cuda/group_by_expert.hpp"
#include "kernels/host/expand.hpp"
#include "kernels/host/fold.hpp"
#include "kernels/host/group_by_expert.hpp"
#include "tests/kernels/cuda/gpu_ranks.hpp"
#include "tests/kernels/cuda/routed_tokens.hpp"
#include "tests/kernels/cuda/seeds.hpp"
#include "tests/kernels/cuda/telling_numbers.hpp"

namespace tokenyard::test {
namespace {

// The results of group_by_expert for one rank.
struct Groups {
  std::vector<std::int64_t> expert_counts, expert_offsets, expanded_row, expert_source_offsets;
};

struct DeviceGroups {
  DeviceArray<std::int64_t> expert_counts, expert_offsets, expanded_row, expert_source_offsets;
};

struct LayoutCase {
  Layout layout = Layout::kExpertContiguous;
  int alignment = 1;
  std::int64_t capacity = 0;
};

LayoutCase draw_layout(RandomBits& random) {
  if (random.one_in(2)) return {.layout = Layout::kExpertPadded, .capacity = random.any_magnitude(1, 200)};
  return {.layout = Layout::kExpertContiguous, .alignment = random.pick({1, 4, 16, 128})};
}

Groups group_on_host(const LayoutCase& layout, const RoutedCase& routed, int rank, const ReceivedTokens& received) {
  const int num_local_experts = routed.placement.num_local_experts(rank);
  Groups groups{.expert_counts = std::vector<std::int64_t>(num_local_experts),
                .expert_offsets = std::vector<std::int64_t>(num_local_experts + 1),
                .expanded_row = std::vector<std::int64_t>(received.topk_idx.size()),
                .expert_source_offsets = std::vector<std::int64_t>(num_local_experts * (routed.num_ranks + 1))};
  host::group_by_expert({.layout = layout.layout,
                         .alignment = layout.alignment,
                         .capacity = layout.capacity,
                         .num_local_experts = num_local_experts,
                         .num_rows = received.num_rows,
                         .top_k = routed.shape.top_k,
                         .topk_idx = received.topk_idx.data(),
                         .num_ranks = routed.num_ranks,
                         .source_offsets = routed.ranks[rank].source_offsets.data(),
                         .expert_counts = groups.expert_counts.data(),
                         .expert_offsets = groups.expert_offsets.data(),
                         .expanded_row = groups.expanded_row.data(),
                         .expert_source_offsets = groups.expert_source_offsets.data()});
  return groups;
}

// Rows or columns dense; the same on host and device.
TensorView expanded_at(void* data, const Lane& lane, const LayoutCase& layout, std::int64_t num_experts,
                       std::int64_t num_rows) {
  if (layout.layout == Layout::kExpertPadded) {
    if (!lane.column_major) return {data, lane.dtype, {num_experts, layout.capacity, lane.num_elements}};
    return {data,
            lane.dtype,
            {num_experts, layout.capacity, lane.num_elements},
            {lane.num_elements * layout.capacity, 1, layout.capacity}};
  }
  if (!lane.column_major) return {data, lane.dtype, {num_rows, lane.num_elements}};
  return {data, lane.dtype, {num_rows, lane.num_elements}, {1, num_rows}};
}

void expand_as_the_host_does(std::uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  RandomBits random(seed);
  Lane lane{.dtype = random.pick({DataType::kBFloat16, DataType::kFloat32, DataType::kUE8M0, DataType::kFloat64}),
            .num_elements = random.any_magnitude(1, 300),
            .column_major = random.one_in(3)};
  if (random.one_in(2)) lane.num_elements = lane.num_elements * 16 / static_cast<std::int64_t>(size_of(lane.dtype));
  const RoutedCase routed = make_routed_case(random, {lane});
  const LayoutCase layout = draw_layout(random);
  const GpuRanks gpus(1, 1);
  const int rank = static_cast<int>(random.from(0, routed.num_ranks - 1));
  const int num_sms = static_cast<int>(random.from(1, 40));
  const int num_local_experts = routed.placement.num_local_experts(rank);
  const ReceivedTokens received = received_by(routed, rank);
  const Groups groups = group_on_host(layout, routed, rank, received);

  const DeviceArray<std::int32_t> topk_idx(received.topk_idx);
  const DeviceArray<std::int64_t> source_offsets(routed.ranks[rank].source_offsets);
  const DeviceArray<std::int32_t> workspace(static_cast<std::size_t>(num_sms) * num_local_experts);
  DeviceGroups device;
  device.expert_counts = DeviceArray<std::int64_t>(groups.expert_counts.size());
  device.expert_offsets = DeviceArray<std::int64_t>(groups.expert_offsets.size());
  device.expanded_row = DeviceArray<std::int64_t>(groups.expanded_row.size());
  device.expert_source_offsets = DeviceArray<std::int64_t>(groups.expert_source_offsets.size());
  const cuda::Launch launch{.stream = gpus.stream(0), .num_sms = num_sms};
  cuda::group_by_expert({.layout = layout.layout,
                         .alignment = layout.alignment,
                         .capacity = layout.capacity,
                         .num_local_experts = num_local_experts,
                         .top_k = routed.shape.top_k,
                         .topk_idx = topk_idx.data(),
                         .num_ranks = routed.num_ranks,
                         .source_offsets = source_offsets.data(),
                         .expert_counts = device.expert_counts.data(),
                         .expert_offsets = device.expert_offsets.data(),
                         .expanded_row = device.expanded_row.data(),
                         .expert_source_offsets = device.expert_source_offsets.data(),
                         .workspace = workspace.data()},
                        launch);

  const std::size_t row_bytes = lane.row_bytes();
  std::vector<std::byte> rows(received.num_rows * row_bytes);
  for (std::byte& byte : rows) byte = static_cast<std::byte>(random.next());
  const std::int64_t num_expanded_rows = groups.expert_offsets.back();
  std::vector<std::byte> expected(num_expanded_rows * row_bytes, std::byte{0xa5});
  const DeviceArray<std::byte> device_rows(rows);
  const DeviceArray<std::byte> expanded(expected);
  const TensorView host_view = expanded_at(expected.data(), lane, layout, num_local_experts, num_expanded_rows);
  const TensorView device_view = expanded_at(expanded.data(), lane, layout, num_local_experts, num_expanded_rows);
  host::expand({.num_rows = received.num_rows,
                .top_k = routed.shape.top_k,
                .expanded_row = groups.expanded_row.data(),
                .received_row = nullptr,
                .stores = host::Stores::kCached,
                .row_bytes = row_bytes,
                .received = rows.data(),
                .expanded = host_view});
  cuda::expand({.num_rows = source_offsets.data() + routed.num_ranks,
                .top_k = routed.shape.top_k,
                .expanded_row = device.expanded_row.data(),
                .row_bytes = row_bytes,
                .received = device_rows.data(),
                .expanded = device_view},
               launch);
  if (layout.layout == Layout::kExpertContiguous) {
    host::zero_gaps({.num_local_experts = num_local_experts,
                     .expert_counts = groups.expert_counts.data(),
                     .expert_offsets = groups.expert_offsets.data(),
                     .expanded = host_view});
    cuda::zero_gaps({.num_local_experts = num_local_experts,
                     .expert_counts = device.expert_counts.data(),
                     .expert_offsets = device.expert_offsets.data(),
                     .expanded = device_view},
                    launch);
  }
  gpus.finish();
  EXPECT_EQ(device.expert_counts.contents(), groups.expert_counts);
  EXPECT_EQ(device.expert_offsets.contents(), groups.expert_offsets);
  EXPECT_EQ(device.expanded_row.contents(), groups.expanded_row);
  EXPECT_EQ(device.expert_source_offsets.contents(), groups.expert_source_offsets);
  EXPECT_TRUE(expanded.contents() == expected)
      << "the expanded rows differ: " << to_string(layout.layout) << ", rows of " << lane.num_elements << " "
      << to_string(lane.dtype) << ", column-major " << lane.column_major;
}

// One rank's contributions to all ranks' tokens.
void fold_as_the_host_does(std::uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  RandomBits random(seed);
  const DataType dtype = random.pick({DataType::kBFloat16, DataType::kFloat16, DataType::kFloat32, DataType::kFloat64});
  const std::int64_t num_elements = static_cast<std::int64_t>(16 / size_of(dtype)) * random.any_magnitude(1, 300);
  RoutedCase routed = make_routed_case(random, {{.dtype = dtype, .num_elements = num_elements}});
  routed.shape.combine_as_float8 = dtype != DataType::kFloat64 && random.one_in(2);
  const LayoutCase layout = draw_layout(random);
  const bool compact = random.one_in(3);
  const bool with_factors = random.one_in(2);
  const bool with_weights = random.one_in(2);
  const bool rows_stay = random.one_in(6);
  const std::size_t shift = random.one_in(3) ? size_of(dtype) : 0;  // of the rows on the device, from an aligned address
  const bool plain_copies = random.one_in(3);
  const GpuRanks gpus(1, 1);
  const int rank = static_cast<int>(random.from(0, routed.num_ranks - 1));
  const int skip_source = random.one_in(2) ? rank : -1;
  const ReceivedTokens received = received_by(routed, rank);
  const Groups groups = group_on_host(layout, routed, rank, received);
  const CombineLayout combine = combine_layout(routed.shape, routed.dimensions);
  const std::int64_t num_layout_rows = compact ? received.num_rows : groups.expert_offsets.back();
  const std::size_t row_bytes = num_elements * size_of(dtype);
  const std::vector<std::byte> rows = telling_numbers(random, dtype, num_layout_rows * num_elements);
  std::vector<float> factors(num_layout_rows);
  for (float& factor : factors) factor = static_cast<float>(random.from(-1'000'000, 1'000'000)) * 0x1p-17F;
  std::vector<float> weights(compact ? received.topk_idx.size() : num_layout_rows);
  for (float& weight : weights) weight = static_cast<float>(random.from(-99, 99));

  std::vector<std::vector<std::byte>> expected(routed.num_ranks, std::vector<std::byte>(combine.num_bytes, std::byte{0x3c}));
  std::vector<std::byte*> host_windows;
  std::vector<DeviceArray<std::byte>> windows;
  std::vector<std::byte*> device_windows;
  for (int peer = 0; peer < routed.num_ranks; ++peer) {
    windows.emplace_back(expected[peer]);
    const bool takes_part = !random.one_in(8);
    host_windows.push_back(takes_part ? expected[peer].data() : nullptr);
    device_windows.push_back(takes_part ? windows[peer].data() : nullptr);
  }
  host::fold({.dtype = dtype,
              .row_bytes = row_bytes,
              .stores = host::Stores::kCached,
              .returned_row_bytes = returned_row_bytes(routed.shape),
              .as_float8 = routed.shape.combine_as_float8,
              .num_ranks = routed.num_ranks,
              .source_offsets = routed.ranks[rank].source_offsets.data(),
              .source_token = received.source_token.data(),
              .ordinal = received.ordinal.data(),
              .top_k = routed.shape.top_k,
              .expanded_row = compact ? nullptr : groups.expanded_row.data(),
              .rows = rows_stay ? nullptr : rows.data(),
              .factors = with_factors ? factors.data() : nullptr,
              .skip_source = skip_source,
              .carried_weights = with_weights ? weights.data() : nullptr,
              .topk_idx = received.topk_idx.data(),
              .rank = rank,
              .places = return_places(routed.shape, routed.dimensions),
              .layout = &combine,
              .windows = host_windows});

  const DeviceArray<std::int64_t> source_offsets(routed.ranks[rank].source_offsets);
  const DeviceArray<std::int32_t> source_token(received.source_token);
  const DeviceArray<std::int32_t> ordinal(received.ordinal);
  const DeviceArray<std::int32_t> topk_idx(received.topk_idx);
  const DeviceArray<std::int64_t> expanded_row(groups.expanded_row);
  std::vector<std::byte> shifted_rows(shift);
  shifted_rows.insert(shifted_rows.end(), rows.begin(), rows.end());
  const DeviceArray<std::byte> device_rows(shifted_rows);
  const DeviceArray<float> device_factors(factors);
  const DeviceArray<float> device_weights(weights);
  const DeviceArray<std::byte*> window_pointers(device_windows);
  cuda::fold({.dtype = dtype,
              .row_bytes = row_bytes,
              .as_float8 = routed.shape.combine_as_float8,
              .returned_row_bytes = returned_row_bytes(routed.shape),
              .num_ranks = routed.num_ranks,
              .source_offsets = source_offsets.data(),
              .source_token = source_token.data(),
              .ordinal = ordinal.data(),
              .max_fan_out = routed.dimensions.max_fan_out,
              .top_k = routed.shape.top_k,
              .expanded_row = compact ? nullptr : expanded_row.data(),
              .rows = rows_stay ? nullptr : device_rows.data() + shift,
              .factors = with_factors ? device_factors.data() : nullptr,
              .skip_source = skip_source,
              .carried_weights = with_weights ? device_weights.data() : nullptr,
              .topk_idx = topk_idx.data(),
              .layout = &combine,
              .windows = window_pointers.data(),
              .state = gpus.state(0)},
             {.stream = gpus.stream(0), .num_sms = static_cast<int>(random.from(1, 40)), .plain_copies = plain_copies});
  gpus.finish();
  for (int peer = 0; peer < routed.num_ranks; ++peer) {
    EXPECT_TRUE(windows[peer].contents() == expected[peer])
        << "rank " << peer << "'s window differs, rows of " << num_elements << " " << to_string(dtype) << ", as FP8 "
        << routed.shape.combine_as_float8 << ", compact " << compact << ", plain copies " << plain_copies << ", shift "
        << shift;
  }
}

TEST(cuda_expert_layouts, groups_and_expanded_rows_stand_where_the_host_puts_them) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(100)) {
    expand_as_the_host_does(seed);
    if (HasFailure()) return;
  }
}

TEST(cuda_expert_layouts, contributions_have_the_bits_of_the_hosts) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(100)) {
    fold_as_the_host_does(seed);
    if (HasFailure()) return;
  }
}

TEST(cuda_expert_layouts, contributions_of_float64_cannot_return_as_float8) {
  SKIP_WITHOUT_GPUS(1);
  const CombineLayout layout{};
  EXPECT_THROW(cuda::fold({.dtype = DataType::kFloat64, .row_bytes = 16, .as_float8 = true, .layout = &layout}, {.num_sms = 1}),
               Error);
}

}  // namespace
}  // namespace tokenyard::test
