#include "cli/routing_source.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "cli/npy.hpp"
#include "cli/usage_error.hpp"
#include "tests/base/expect_error.hpp"

namespace tokenyard::cli {
namespace {

constexpr RoutingShape kShape{.num_ranks = 3, .num_tokens = 500, .num_experts = 32, .top_k = 4, .seed = 7};

std::vector<std::int64_t> loads_of(const RoutingChoice& choice) {
  std::vector<std::int64_t> loads(static_cast<std::size_t>(choice.shape.num_experts));
  for (std::int64_t id : choice.topk_idx) ++loads[static_cast<std::size_t>(id)];
  return loads;
}

void expect_different_valid_ids(const RoutingChoice& choice) {
  for (int rank = 0; rank < choice.shape.num_ranks; ++rank) {
    for (std::int64_t token = 0; token < choice.shape.num_tokens; ++token) {
      const std::int64_t* ids = choice.ids(rank, token);
      const std::set<std::int64_t> different(ids, ids + choice.shape.top_k);
      ASSERT_EQ(different.size(), static_cast<std::size_t>(choice.shape.top_k));
      ASSERT_GE(*different.begin(), 0);
      ASSERT_LT(*different.rbegin(), choice.shape.num_experts);
    }
  }
}

std::string write_ids(const std::string& name, const std::vector<std::int64_t>& ids, std::int64_t num_columns) {
  const std::string path = testing::TempDir() + name;
  NpyArray array{.dtype = DataType::kInt64,
                 .num_rows = static_cast<std::int64_t>(ids.size()) / num_columns,
                 .num_columns = num_columns,
                 .bytes = {}};
  array.bytes.resize(ids.size() * sizeof(ids[0]));
  if (!ids.empty()) std::memcpy(array.bytes.data(), ids.data(), array.bytes.size());
  write_npy(path, array);
  return path;
}

TEST(routing_source, every_source_draws_different_experts) {
  for (const char* source : {"uniform", "zipf:0", "zipf:1.2", "grouped:8/3", "grouped:1/1"}) {
    SCOPED_TRACE(source);
    expect_different_valid_ids(make_routing(source, kShape));
  }
  RoutingShape all_experts = kShape;
  all_experts.top_k = 32;
  expect_different_valid_ids(make_routing("uniform", all_experts));
  expect_different_valid_ids(make_routing("zipf:2", all_experts));
}

TEST(routing_source, the_seed_decides) {
  RoutingShape other_seed = kShape;
  other_seed.seed = 8;
  for (const char* source : {"uniform", "zipf:1", "grouped:8/3"}) {
    SCOPED_TRACE(source);
    EXPECT_EQ(make_routing(source, kShape).topk_idx, make_routing(source, kShape).topk_idx);
    EXPECT_NE(make_routing(source, kShape).topk_idx, make_routing(source, other_seed).topk_idx);
  }
  EXPECT_EQ(make_routing("uniform", kShape).topk_weights, make_routing("zipf:1", kShape).topk_weights);
}

TEST(routing_source, uniform_loads_are_balanced) {
  // 6,000 draws over 32 experts: 187.5 expected each, a standard deviation of about 13.
  for (std::int64_t load : loads_of(make_routing("uniform", kShape))) {
    EXPECT_GT(load, 120);
    EXPECT_LT(load, 260);
  }
}

TEST(routing_source, zipf_prefers_few_experts) {
  std::vector<std::int64_t> loads = loads_of(make_routing("zipf:1.5", kShape));
  std::sort(loads.rbegin(), loads.rend());
  EXPECT_GT(loads[0], 1'300);  // of 1,500 tokens
  EXPECT_LT(loads[31], 60);
}

TEST(routing_source, grouped_tokens_stay_within_their_groups) {
  const RoutingChoice choice = make_routing("grouped:8/2", kShape);
  for (std::int64_t token = 0; token < kShape.num_tokens; ++token) {
    std::set<std::int64_t> groups;
    for (int k = 0; k < kShape.top_k; ++k) groups.insert(choice.ids(1, token)[k] / 4);
    ASSERT_LE(groups.size(), 2U);
  }
}

TEST(routing_source, weights_are_positive_and_below_one) {
  const RoutingChoice choice = make_routing("uniform", kShape);
  EXPECT_THAT(choice.topk_weights, testing::Each(testing::AllOf(testing::Ge(0.0625F), testing::Lt(1.0F))));
}

TEST(routing_source, a_file_is_dealt_to_the_ranks_in_order_and_repeated) {
  const std::string path = write_ids("dealt.npy", {0, 1, 2, -1, 4, 5}, 2);
  const RoutingChoice choice = make_routing(path, {.num_ranks = 2, .num_tokens = 2, .num_experts = 6, .top_k = 2});
  EXPECT_THAT(choice.topk_idx, testing::ElementsAre(0, 1, 2, -1, 4, 5, 0, 1));
}

TEST(routing_source, files_that_do_not_fit_are_rejected) {
  const RoutingShape shape{.num_ranks = 1, .num_tokens = 2, .num_experts = 6, .top_k = 2};
  const auto reject = [&](const std::string& path, const char* text) {
    test::expect_error([&] { make_routing(path, shape); }, ErrorCode::kInvalidArgument, text);
  };
  reject(write_ids("wide.npy", {0, 1, 2}, 3), "pass --top-k 3");
  reject(write_ids("large.npy", {0, 1, 2, 6}, 2), "row 1 column 1 holds the expert id 6; ids must lie in [0, 6)");
  reject(write_ids("negative.npy", {0, -2}, 2), "holds the expert id -2");
  reject(write_ids("empty.npy", {}, 2), "has no rows");
  test::expect_error([&] { make_routing("/no/such/ids.npy", shape); }, ErrorCode::kSystem, "/no/such/ids.npy");
}

TEST(routing_source, senseless_sources_are_usage_errors) {
  for (const char* source : {"", "uniform ", "zipf", "zipf:", "zipf:x", "zipf:-1", "zipf:nan", "grouped:", "grouped:4",
                             "grouped:4/5", "grouped:4/0", "grouped:5/2", "grouped:32/2", "grouped:0/0", "ids.txt"}) {
    SCOPED_TRACE(source);
    EXPECT_THROW(make_routing(source, kShape), UsageError);
  }
  RoutingShape too_few_experts = kShape;
  too_few_experts.num_experts = 3;
  EXPECT_THROW(make_routing("uniform", too_few_experts), UsageError);
}

}  // namespace
}  // namespace tokenyard::cli
