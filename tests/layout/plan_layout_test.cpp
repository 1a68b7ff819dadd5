#include "layout/plan_layout.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <random>

#include "tests/engine/round_trip.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/process_state.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr std::size_t kAlignment = 256;

std::size_t round_up(std::size_t num_bytes) { return (num_bytes + kAlignment - 1) / kAlignment * kAlignment; }

struct Draw {
  Shape shape;
  int num_ranks;
};

Draw draw_shape(std::mt19937_64& random) {
  const auto pick = [&](std::int64_t least, std::int64_t most) {
    return std::uniform_int_distribution<std::int64_t>(least, most)(random);
  };
  // Small and large numbers alike.
  const auto spread = [&](std::int64_t most) { return pick(1, std::max<std::int64_t>(1, most >> pick(0, 11))); };
  Draw draw;
  draw.num_ranks = static_cast<int>(spread(kMaxRanks));
  Shape& shape = draw.shape;
  shape.num_experts = static_cast<int>(spread(kMaxExperts));
  shape.top_k = static_cast<int>(pick(1, kMaxTopK));
  shape.max_tokens = spread(8192);
  constexpr DataType kTypes[] = {DataType::kByte,    DataType::kFloat8E4M3, DataType::kUE8M0,
                                 DataType::kFloat16, DataType::kBFloat16,   DataType::kFloat32,
                                 DataType::kFloat64, DataType::kInt32,      DataType::kInt64};
  const auto num_lanes = pick(1, kMaxLanes);
  for (std::int64_t lane = 0; lane < num_lanes; ++lane) {
    shape.lanes.push_back({kTypes[pick(0, 8)], lane == 0 ? 16 * spread(512) : spread(300)});
  }
  if (pick(0, 1) == 1) shape.combine = Lane{kTypes[pick(3, 6)], 8 * spread(1024)};
  shape.layout = static_cast<Layout>(pick(0, 2));
  shape.expert_alignment = static_cast<int>(spread(256));
  if (shape.layout == Layout::kExpertPadded) shape.expert_capacity = pick(1, draw.num_ranks * shape.max_tokens * shape.top_k);
  shape.overflow = static_cast<Overflow>(pick(0, 1));
  shape.mode = static_cast<Mode>(pick(0, 1));
  const DataType combined = shape.combine ? shape.combine->dtype : shape.lanes[0].dtype;
  shape.combine_as_float8 = pick(0, 3) == 0 && is_summable(combined) && combined != DataType::kFloat64;
  if (pick(0, 2) == 0 && shape.mode == Mode::kThroughput) shape.recv_capacity = pick(1, draw.num_ranks * shape.max_tokens);
  if (pick(0, 3) == 0) shape.max_local_experts = static_cast<int>(pick(0, 64));
  return draw;
}

// Calls check(shape, ranks, sizes) for many random shapes, and says which one failed.
template <class Check>
void for_random_shapes(int num_shapes, Check check) {
  const std::uint64_t seed = 20240607;
  for (int i = 0; i < num_shapes; ++i) {
    std::mt19937_64 random(seed + static_cast<std::uint64_t>(i));
    const Draw draw = draw_shape(random);
    SCOPED_TRACE(testing::Message() << "shape " << i << " of seed " << seed << ": " << draw.num_ranks << " ranks, "
                                    << draw.shape.num_experts << " experts, top-k " << draw.shape.top_k << ", max_tokens "
                                    << draw.shape.max_tokens << ", " << to_string(draw.shape.layout));
    check(draw.shape, draw.num_ranks, plan_sizes(draw.shape, draw.num_ranks));
    if (testing::Test::HasFailure()) return;
  }
}

TEST(plan_layout, regions_are_aligned_apart_and_inside_their_windows) {
  for_random_shapes(2'000, [](const Shape&, int, const PlanSizes& sizes) {
    std::map<std::string, std::size_t> window_ends;
    for (const Region& region : sizes.regions) {
      EXPECT_EQ(region.offset % kAlignment, 0) << region.name;
      // Regions are listed in the order in which they lie, so apart means: behind the last one.
      EXPECT_EQ(region.offset, window_ends[region.window]) << region.window << ": " << region.name;
      window_ends[region.window] = round_up(region.offset + region.num_bytes);
    }
    ASSERT_EQ(window_ends.size(), 3);
    EXPECT_EQ(sizes.window_bytes, window_ends["control"] + kNumSlots * (window_ends["dispatch"] + window_ends["combine"]));
  });
}

TEST(plan_layout, sizes_are_the_sums_of_what_must_be_stored) {
  for_random_shapes(2'000, [](const Shape& shape, int num_ranks, const PlanSizes& sizes) {
    const auto ranks = static_cast<std::size_t>(num_ranks);
    const auto top_k = static_cast<std::size_t>(shape.top_k);
    const auto max_tokens = static_cast<std::size_t>(shape.max_tokens);
    const auto capacity = static_cast<std::size_t>(sizes.recv_capacity);
    const auto num_local = static_cast<std::size_t>(sizes.max_local_experts);
    EXPECT_EQ(sizes.worst_recv_rows, num_ranks * shape.max_tokens);
    EXPECT_LE(sizes.recv_capacity, sizes.worst_recv_rows);
    EXPECT_EQ(sizes.max_fan_out, std::min(shape.top_k, num_ranks));
    EXPECT_EQ(sizes.max_local_experts, std::max(shape.max_local_experts, (shape.num_experts + num_ranks - 1) / num_ranks));
    EXPECT_TRUE(shape.recv_capacity == 0 || shape.recv_capacity == sizes.recv_capacity);

    // Two tracks of lines and of words for 64 rows each, and counts, for each slot; then ids, weights, source and ordinal of
    // each received row; then weights that come home.
    const bool latency = shape.mode == Mode::kLatency;
    const std::size_t counts = latency ? 0 : 4 * ranks * ranks + 4 * ranks * num_local;
    const std::size_t segments = latency ? 0 : 2 * 8 * ranks * ((max_tokens + 63) / 64);
    const std::size_t control = kNumSlots * (2 * 64 * ranks + counts + segments);
    // Latency mode: no counts, but a bit per place and source, weights that come home by rank, and those that are given at
    // combine.
    if (latency) {
      EXPECT_EQ(sizes.recv_capacity, sizes.worst_recv_rows);
    }
    const std::size_t arrivals = latency ? ranks * ((max_tokens + 63) / 64) * 8 : 0;
    const std::size_t dispatch = kNumSlots * (capacity * (8 * top_k + 8) + arrivals);
    const std::size_t combine = kNumSlots * max_tokens * top_k * 4 * (latency ? 2 * ranks : 1);
    EXPECT_EQ(sizes.metadata_bytes, control + dispatch + combine);

    std::size_t lanes = 0;
    std::size_t aligned_lanes = 0;
    for (const Lane& lane : shape.lanes) {
      lanes += capacity * lane.row_bytes();
      aligned_lanes += round_up(capacity * lane.row_bytes());
    }
    const Lane combine_row = combine_lane(shape);
    const std::size_t overlay = capacity * combine_row.row_bytes();
    if (!latency && shape.layout == Layout::kCompact && overlay > aligned_lanes) lanes += overlay - aligned_lanes;
    std::size_t home_bytes = combine_row.row_bytes();
    if (shape.combine_as_float8) {
      const auto num_elements = static_cast<std::size_t>(combine_row.num_elements);
      home_bytes = (num_elements + (num_elements + 127) / 128 * 4 + 15) / 16 * 16;
    }
    const std::size_t rows_home = max_tokens * (latency ? ranks : static_cast<std::size_t>(sizes.max_fan_out)) * home_bytes;
    std::size_t payload = 0;
    std::size_t metadata = 0;
    for (const Region& region : sizes.regions) {
      (region.metadata ? metadata : payload) += region.num_bytes * (region.window == "control" ? 1 : kNumSlots);
    }
    EXPECT_EQ(payload, kNumSlots * (lanes + rows_home));
    EXPECT_EQ(metadata, sizes.metadata_bytes);
    EXPECT_GE(sizes.window_bytes, payload + metadata);
    EXPECT_LT(sizes.window_bytes, payload + metadata + kAlignment * kNumSlots * sizes.regions.size());
  });
}

TEST(plan_layout, compact_rows_of_combine_find_room_over_the_received_rows) {
  for_random_shapes(2'000, [](const Shape& shape, int num_ranks, const PlanSizes& sizes) {
    if (shape.layout != Layout::kCompact || shape.mode == Mode::kLatency) return;
    const Placement placement(shape.placement, shape.num_experts, num_ranks);
    const PlanDimensions dimensions = plan_dimensions(shape, num_ranks, placement);
    const DispatchLayout layout = dispatch_layout(shape, dimensions, sizes.recv_capacity);
    const auto capacity = static_cast<std::size_t>(sizes.recv_capacity);
    EXPECT_LE(layout.lanes[0] + capacity * combine_lane(shape).row_bytes(), layout.num_bytes);
  });
}

TEST(plan_layout, more_of_anything_never_needs_less) {
  const auto grow = [](const char* what, const Draw& draw, const std::function<void(Draw&)>& change) {
    Draw larger = draw;
    change(larger);
    SCOPED_TRACE(what);
    const PlanSizes before = plan_sizes(draw.shape, draw.num_ranks);
    const PlanSizes after = plan_sizes(larger.shape, larger.num_ranks);
    EXPECT_GE(after.window_bytes, before.window_bytes);
    EXPECT_GE(after.metadata_bytes, before.metadata_bytes);
  };
  for_random_shapes(1'000, [&](const Shape& shape, int num_ranks, const PlanSizes& sizes) {
    const Draw draw{shape, num_ranks};
    if (shape.top_k < kMaxTopK) grow("top_k", draw, [](Draw& larger) { ++larger.shape.top_k; });
    if (shape.num_experts < kMaxExperts) grow("num_experts", draw, [](Draw& larger) { ++larger.shape.num_experts; });
    grow("max_tokens", draw, [](Draw& larger) { ++larger.shape.max_tokens; });
    grow("max_local_experts", draw, [&](Draw& larger) { larger.shape.max_local_experts = sizes.max_local_experts + 1; });
    for (std::size_t lane = 0; lane < shape.lanes.size(); ++lane) {
      grow("a lane", draw, [lane](Draw& larger) { larger.shape.lanes[lane].num_elements += 16; });
    }
    if (shape.combine) grow("combine", draw, [](Draw& larger) { larger.shape.combine->num_elements += 8; });
    if (shape.recv_capacity > 0 && shape.recv_capacity < sizes.worst_recv_rows) {
      grow("recv_capacity", draw, [](Draw& larger) { ++larger.shape.recv_capacity; });
    }
    // More ranks hold fewer experts each; the bound keeps that number.
    if (num_ranks < kMaxRanks) {
      Draw bounded = draw;
      bounded.shape.max_local_experts = sizes.max_local_experts;
      grow("ranks", bounded, [](Draw& larger) { ++larger.num_ranks; });
    }
  });
}

TEST(plan_layout, latency_mode_needs_memory_by_ranks_tokens_and_rows_but_not_by_experts) {
  Shape shape;
  shape.mode = Mode::kLatency;
  shape.layout = Layout::kExpertContiguous;
  shape.num_experts = 64;
  shape.top_k = 8;
  shape.max_tokens = 128;
  shape.lanes = {{DataType::kBFloat16, 7168}};
  const auto bytes_of = [](const Shape& changed, int num_ranks) {
    return static_cast<double>(plan_sizes(changed, num_ranks).window_bytes);
  };
  const double usual = bytes_of(shape, 8);
  EXPECT_NEAR(bytes_of(shape, 16), 2 * usual, usual / 100);
  Shape more_tokens = shape;
  more_tokens.max_tokens *= 4;
  EXPECT_NEAR(bytes_of(more_tokens, 8), 4 * usual, usual / 50);
  Shape wider = shape;
  wider.lanes[0].num_elements *= 2;
  EXPECT_NEAR(bytes_of(wider, 8), 2 * usual, usual / 50);
  Shape more_experts = shape;
  more_experts.num_experts = 1024;
  EXPECT_EQ(bytes_of(more_experts, 8), usual);
  // Rows on their way out and home, and little else.
  const double rows = 2.0 * kNumSlots * 8 * 128 * 7168 * 2;
  EXPECT_GT(usual, rows);
  EXPECT_LT(usual, 1.02 * rows);
}

TEST(plan_layout, metadata_of_the_largest_group_stays_in_proportion) {
  Shape shape;
  shape.num_experts = kMaxExperts;
  shape.top_k = 8;
  shape.max_tokens = 128;
  shape.lanes = {{DataType::kBFloat16, 7168}};
  const PlanSizes sizes = plan_sizes(shape, kMaxRanks);
  EXPECT_EQ(sizes.max_local_experts, 2);
  EXPECT_EQ(sizes.worst_recv_rows, 2048 * 128);
  EXPECT_LT(sizes.metadata_bytes, std::size_t{48} << 20) << "the count matrix of 2,048 ranks takes 16 MiB per slot";
}

// What the kernel lists as this process's shared mappings of the library, in whole pages.
std::size_t mapped_bytes() {
  std::ifstream maps("/proc/self/maps");
  std::size_t num_bytes = 0;
  for (std::string line; std::getline(maps, line);) {
    if (line.find("memfd:tokenyard") == std::string::npos) continue;
    const std::size_t dash = line.find('-');
    num_bytes += std::stoull(line.substr(dash + 1), nullptr, 16) - std::stoull(line, nullptr, 16);
  }
  return num_bytes;
}

TEST(plan_layout, a_plan_maps_what_its_sizes_say_for_every_rank) {
  for (const Layout layout : {Layout::kCompact, Layout::kExpertContiguous, Layout::kExpertPadded}) {
    const auto results = run_process_ranks(3, [&](std::shared_ptr<Exchange> exchange) {
      const Group group = Group::create(std::move(exchange), patient());
      const std::size_t before = mapped_bytes();
      Shape shape = small_shape(3, layout);
      shape.max_tokens = 3'000;
      shape.lanes.push_back({DataType::kUE8M0, 7});
      const Plan plan = group.plan(shape);
      EXPECT_EQ(plan.sizes().window_bytes, plan_sizes(shape, 3).window_bytes);
      const std::size_t per_rank = (mapped_bytes() - before) / 3;
      EXPECT_GE(per_rank, plan.sizes().window_bytes);
      EXPECT_LT(per_rank, plan.sizes().window_bytes + 5 * 4096) << "five windows, each in whole pages";
      group.barrier();
    });
    for (const ProcessResult& result : results) EXPECT_EQ(result.exit_code, 0);
  }
}

}  // namespace
}  // namespace tokenyard::test
