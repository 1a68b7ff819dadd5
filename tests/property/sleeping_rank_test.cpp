// One rank sleeps on a live result while the others run ahead.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <optional>
#include <thread>
#include <vector>

#include "tests/support/run_ranks.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 4;
constexpr int kSleeper = 2;
constexpr int kNumTokens = 24;
constexpr std::int64_t kRowNumbers = 256;
constexpr auto kNap = std::chrono::milliseconds(150);

Shape one_expert_per_rank(Layout layout) {
  Shape shape;
  shape.num_experts = kNumRanks;
  shape.top_k = 2;
  shape.max_tokens = kNumTokens;
  shape.lanes = {{DataType::kInt32, kRowNumbers}};
  shape.combine = Lane{DataType::kFloat32, kRowNumbers};
  shape.layout = layout;
  return shape;
}

// What stands everywhere in a row: which call, who sent it, which token.
std::int32_t mark(int call, int source, std::int64_t token) {
  return static_cast<std::int32_t>((call * 1000 + source) * 1000 + token);
}

// A rank that sends each token to its right neighbour and to the one behind.
class Neighbour {
 public:
  Neighbour(const Plan& plan, int rank) : plan_(plan), rank_(rank), ids_(kNumTokens * 2), rows_(kNumTokens * kRowNumbers) {
    for (int token = 0; token < kNumTokens; ++token) {
      ids_[token * 2] = (rank + 1) % kNumRanks;
      ids_[token * 2 + 1] = (rank + 2) % kNumRanks;
    }
  }

  // With top-k ids, or with the Routing of an earlier call.
  Received dispatch(int call, int slot, const Routing* routing = nullptr) {
    for (int token = 0; token < kNumTokens; ++token) {
      std::fill_n(rows_.begin() + token * kRowNumbers, kRowNumbers, mark(call, rank_, token));
    }
    const ConstTensorView lane = tensor(std::as_const(rows_).data(), {kNumTokens, kRowNumbers});
    DispatchArgs args;
    args.lanes = {&lane, 1};
    if (routing == nullptr) args.topk_idx = tensor(std::as_const(ids_).data(), {kNumTokens, 2});
    args.routing = routing;
    args.slot = slot;
    return plan_.dispatch(args);
  }

  // The number of rows of the result that are not those of `call`.
  int num_wrong_rows(const Received& received, int call) const {
    const TensorView rows = received.lane(0);
    const auto* source_token = static_cast<const std::int32_t*>(received.routing().source_token().data);
    const auto* source_offsets = static_cast<const std::int64_t*>(received.routing().source_offsets().data);
    int num_wrong = 0;
    for (int source = 0; source < kNumRanks; ++source) {
      for (std::int64_t row = source_offsets[source]; row < source_offsets[source + 1]; ++row) {
        const auto* numbers = reinterpret_cast<const std::int32_t*>(rows.at(row));
        const std::int32_t wanted = mark(call, source, source_token[row]);
        num_wrong += std::all_of(numbers, numbers + kRowNumbers, [&](std::int32_t number) { return number == wanted; }) ? 0 : 1;
      }
    }
    return num_wrong + static_cast<int>(std::abs(rows.shape[0] - 2 * kNumTokens));
  }

 private:
  Plan plan_;
  int rank_;
  std::vector<std::int32_t> ids_, rows_;
};

class SleepingRank : public testing::TestWithParam<Layout> {};

// All ranks take part in cached dispatches into the other slot; only the sleeper keeps its first result.
TEST_P(SleepingRank, keeps_its_result_while_cached_dispatches_go_to_the_other_slot) {
  run_thread_ranks(kNumRanks, [](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange));
    const int rank = group.rank();
    Neighbour neighbour(group.plan(one_expert_per_rank(GetParam())), rank);
    Received first = neighbour.dispatch(0, 0);
    const Routing routing = first.routing();
    if (rank != kSleeper) first.release();
    for (int call = 1; call <= 40; ++call) {
      if (rank == kSleeper) std::this_thread::sleep_for(std::chrono::milliseconds(call % 4));
      const Received second = neighbour.dispatch(call, 1, &routing);
      EXPECT_EQ(neighbour.num_wrong_rows(second, call), 0) << "rank " << rank << ", call " << call;
      if (rank == kSleeper) {
        EXPECT_EQ(neighbour.num_wrong_rows(first, 0), 0) << "call " << call;
      }
    }
  });
}

// The others enter the next dispatch into the sleeper's slot, and wait there.
TEST_P(SleepingRank, holds_back_who_wants_to_write_into_its_slot) {
  std::atomic<int> num_entered{0};
  std::atomic<int> num_returned{0};
  run_thread_ranks(kNumRanks, [&](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange));
    const int rank = group.rank();
    Neighbour neighbour(group.plan(one_expert_per_rank(GetParam())), rank);
    for (int call = 0; call < 3; ++call) {
      num_entered = num_returned = 0;
      group.barrier();
      Received result = neighbour.dispatch(2 * call, 0);
      const Routing routing = result.routing();
      if (rank == kSleeper) {
        while (num_entered < kNumRanks - 1) std::this_thread::yield();
        std::this_thread::sleep_for(kNap);
        EXPECT_EQ(num_returned, 0);
        EXPECT_EQ(neighbour.num_wrong_rows(result, 2 * call), 0);
      }
      result.release();
      ++num_entered;
      const Received next = neighbour.dispatch(2 * call + 1, 0, call % 2 == 0 ? &routing : nullptr);
      ++num_returned;
      EXPECT_EQ(neighbour.num_wrong_rows(next, 2 * call + 1), 0) << "rank " << rank;
      group.barrier();
    }
  });
}

// Both slots are live on the sleeper: its third dispatch is an error that sends nothing, and succeeds once a slot is free.
TEST_P(SleepingRank, cannot_have_a_third_live_result) {
  std::atomic<int> num_returned{0};
  run_thread_ranks(kNumRanks, [&](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange));
    const int rank = group.rank();
    Neighbour neighbour(group.plan(one_expert_per_rank(GetParam())), rank);
    Received first = neighbour.dispatch(0, -1);
    Received second = neighbour.dispatch(1, -1, &first.routing());
    EXPECT_NE(first.slot(), second.slot());
    const Routing routing = first.routing();
    if (rank != kSleeper) {
      first.release();
    } else {
      for (const Routing* given : {static_cast<const Routing*>(nullptr), &routing}) {
        try {
          neighbour.dispatch(2, -1, given);
          ADD_FAILURE() << "a third result came to life";
        } catch (const Error& error) {
          EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
          EXPECT_NE(std::string(error.what()).find("release"), std::string::npos) << error.what();
        }
      }
      std::this_thread::sleep_for(kNap);
      EXPECT_EQ(num_returned, 0);
      EXPECT_EQ(neighbour.num_wrong_rows(first, 0), 0);
      EXPECT_EQ(neighbour.num_wrong_rows(second, 1), 0);
      first.release();
    }
    const Received third = neighbour.dispatch(2, -1, &routing);
    ++num_returned;
    EXPECT_EQ(neighbour.num_wrong_rows(third, 2), 0) << "rank " << rank;
    EXPECT_EQ(neighbour.num_wrong_rows(second, 1), 0) << "rank " << rank;
    EXPECT_EQ(group.status(), std::nullopt);
  });
}

INSTANTIATE_TEST_SUITE_P(With, SleepingRank, testing::Values(Layout::kCompact, Layout::kExpertContiguous),
                         [](const auto& param_info) {
                           return param_info.param == Layout::kCompact ? "compact" : "contiguous";
                         });

}  // namespace
}  // namespace tokenyard::test
