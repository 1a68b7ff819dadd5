#include "cli/gpu_goals.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "cli/gpu_operations.hpp"

namespace tokenyard::cli {
namespace {

TEST(gpu_goals, those_of_a_load_stand_together) {
  std::vector<GpuLoad> loads;
  for (const GpuGoal& goal : gpu_goals()) {
    if (!loads.empty() && loads.back() == goal.load) continue;
    EXPECT_EQ(std::count(loads.begin(), loads.end(), goal.load), 0) << goal.load.num_tokens << " x " << goal.load.hidden;
    loads.push_back(goal.load);
  }
  EXPECT_EQ(loads.size(), 5U);
}

TEST(gpu_goals, no_step_has_two_goals_and_none_needs_many_sms) {
  const std::set<std::string_view> operations{kDispatchCached, kDispatch, kCombineInPlace, kCombine};
  std::set<std::string> steps;
  for (const GpuGoal& goal : gpu_goals()) {
    EXPECT_TRUE(operations.contains(goal.operation)) << goal.operation;
    EXPECT_LE(goal.num_sms, goal.copy_out ? 24 : 16);
    EXPECT_GT(goal.microseconds, 0);
    const std::string step = std::to_string(goal.load.num_tokens) + " " + std::to_string(goal.load.hidden) + " " +
                             std::string(goal.load.dtype) + " " + std::string(goal.operation) + " " +
                             std::to_string(goal.num_sms) + (goal.copy_out ? " out" : " in") +
                             (goal.by_engines ? " engines" : "");
    EXPECT_TRUE(steps.insert(step).second) << step;
  }
}

// Rows in ordinary tensors may take a tenth longer than those in the slot.
TEST(gpu_goals, ordinary_tensors_cost_a_tenth) {
  const auto goal_of = [](std::string_view dtype, std::string_view operation, bool copy_out) {
    const auto goals = gpu_goals();
    const auto goal = std::find_if(goals.begin(), goals.end(), [&](const GpuGoal& candidate) {
      return candidate.load.dtype == dtype && candidate.operation == operation && candidate.copy_out == copy_out;
    });
    return goal == goals.end() ? 0.0 : goal->microseconds;
  };
  for (const char* dtype : {"bfloat16", "fp8"}) {
    EXPECT_NEAR(goal_of(dtype, kDispatchCached, true), 1.1 * goal_of(dtype, kDispatchCached, false), 1e-9);
  }
  EXPECT_NEAR(goal_of("bfloat16", kCombine, true), 1.1 * goal_of("bfloat16", kCombineInPlace, false), 1e-9);
}

// The same step with as many SMs on the link is the measure.
TEST(gpu_goals, copy_engines_may_take_a_tenth_longer) {
  int num_goals = 0;
  for (const GpuGoal& goal : gpu_goals()) {
    if (!goal.by_engines) continue;
    ++num_goals;
    const auto goals = gpu_goals();
    const auto measure = std::find_if(goals.begin(), goals.end(), [&](const GpuGoal& candidate) {
      return !candidate.by_engines && candidate.load == goal.load && candidate.operation == goal.operation &&
             candidate.copy_out == goal.copy_out && candidate.num_sms == goal.num_sms;
    });
    ASSERT_NE(measure, goals.end()) << goal.operation;
    EXPECT_NEAR(goal.microseconds, 1.1 * measure->microseconds, 1e-9);
  }
  EXPECT_EQ(num_goals, 2);
}

}  // namespace
}  // namespace tokenyard::cli
