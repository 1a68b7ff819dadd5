#include "cli/gpu_bench_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/gpu_operations.hpp"

namespace tokenyard::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

BenchSetup make_setup(int num_ranks) {
  BenchOptions options;
  options.device = "cuda";
  options.token_counts = {50};
  options.hidden = 64;
  options.num_experts = 12;
  options.top_k = 2;
  return make_bench_setups(options, num_ranks).front();
}

// The busiest rank's rows, counted from the ids: who sends what to whom.
std::int64_t busiest_rows(const BenchSetup& setup) {
  const int experts_per_rank = setup.options.num_experts / setup.num_ranks;
  std::vector<std::int64_t> sent(setup.num_ranks);
  std::vector<std::int64_t> received(setup.num_ranks);
  for (int rank = 0; rank < setup.num_ranks; ++rank) {
    for (std::int64_t token = 0; token < setup.num_tokens; ++token) {
      for (int destination = 0; destination < setup.num_ranks; ++destination) {
        const std::int64_t* ids = setup.routing.ids(rank, token);
        const bool goes = ids[0] / experts_per_rank == destination || ids[1] / experts_per_rank == destination;
        if (!goes || destination == rank) continue;
        ++sent[rank];
        ++received[destination];
      }
    }
  }
  return std::max(*std::max_element(sent.begin(), sent.end()), *std::max_element(received.begin(), received.end()));
}

TEST(gpu_bench_report, link_bytes_are_those_of_the_busiest_rank) {
  const BenchSetup setup = make_setup(3);
  const std::int64_t num_rows = busiest_rows(setup);
  ASSERT_GT(num_rows, 0);
  EXPECT_EQ(link_bytes(setup, kDispatchCached), num_rows * 128);
  EXPECT_EQ(link_bytes(setup, kCombineInPlace), num_rows * 128);
  EXPECT_EQ(link_bytes(setup, kGraph), num_rows * 256);
  EXPECT_EQ(link_bytes(make_setup(1), kDispatch), 0);
}

TEST(gpu_bench_report, rates_follow_from_bytes_and_medians) {
  const BenchSetup setup = make_setup(2);
  const GpuScene scene{.gpu = "a card", .copy_engine = 400, .copy_engine_one_way = 410};
  const GpuResult result{.operation = kDispatchCached, .num_sms = 16, .copies = "engine", .microseconds = {30, 10, 20}};
  const Record record = to_gpu_result(setup, scene, result);
  EXPECT_EQ(find(record, "p50_us").real, 20);
  const double rate = static_cast<double>(link_bytes(setup, kDispatchCached)) / 20e3;
  EXPECT_DOUBLE_EQ(find(record, "gb_per_s").real, rate);
  EXPECT_DOUBLE_EQ(find(record, "of_copy_engine").real, rate / 400);
  EXPECT_EQ(find(record, "sms"), Value(16));
  EXPECT_EQ(find(record, "copies"), Value("engine"));
  EXPECT_EQ(find(record, "wrong_rows"), Value());  // nothing was checked, so nothing is claimed
}

TEST(gpu_bench_report, a_goal_is_reached_by_the_median) {
  const BenchSetup setup = make_setup(2);
  const GpuGoal goal{
      .load = {50, 64, 12, "bfloat16"}, .operation = kDispatch, .copy_out = true, .num_sms = 24, .microseconds = 20};
  GpuResult result{.operation = kDispatch,
                   .copy_out = true,
                   .copies = "chosen",
                   .microseconds = {20, 90, 10},
                   .checked_rows = 8,
                   .wrong_rows = 1};
  Record record = to_goal_result(setup, {}, result, goal);
  EXPECT_EQ(find(record, "reached"), Value(true));
  EXPECT_EQ(find(record, "goal_us"), Value(20.0));
  EXPECT_EQ(find(record, "rows_in"), Value("tensors"));
  EXPECT_EQ(find(record, "wrong_rows"), Value(1));
  EXPECT_EQ(find(record, "of_copy_engine"), Value());
  result.microseconds = {20.5, 90, 10};
  EXPECT_EQ(find(to_goal_result(setup, {}, result, goal), "reached"), Value(false));
  // Goals are for two ranks with a GPU each.
  EXPECT_EQ(find(to_goal_result(make_setup(4), {}, result, goal), "reached"), Value());
  EXPECT_EQ(find(to_goal_result(setup, {.gpu = "a card", .num_ranks_on_gpu = 2}, result, goal), "goal_us"), Value());
}

TEST(gpu_bench_report, ranks_that_share_a_gpu_are_named_a_trend) {
  const BenchSetup setup = make_setup(2);
  EXPECT_THAT(gpu_bench_heading(setup, {.gpu = "a card", .num_ranks_on_gpu = 2}), HasSubstr("trend"));
  EXPECT_THAT(gpu_bench_heading(setup, {.gpu = "a card"}), Not(HasSubstr("trend")));
  EXPECT_THAT(gpu_goals_heading(setup, {.gpu = "a card"}), HasSubstr("seed 1"));
}

}  // namespace
}  // namespace tokenyard::cli
