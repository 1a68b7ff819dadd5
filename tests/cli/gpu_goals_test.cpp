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
                             std::to_string(goal.num_sms) + (goal.copy_out ? " out" : " in");
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

}  // namespace
}  // namespace tokenyard::cli
