// Ranks that are left out, and counters that say whom one waited for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/base/expect_error.hpp"
#include "tests/engine/small_rank.hpp"

namespace tokenyard::test {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int kNumRanks = 4;
constexpr int kOut = 2;  // the rank that is left out

Shape masking_shape(Layout layout = Layout::kCompact) {
  Shape shape = latency_shape(kNumRanks, layout);
  shape.mask_late_ranks = true;
  return shape;
}

// A round trip in which the masked rank has no part.
void expect_round_trip_without(SmallRank& rank, int round) {
  const SmallInput input(rank.rank, kNumRanks, round);
  PendingDispatch dispatch = rank.plan.begin_dispatch(input.dispatch());
  const Received received = dispatch.complete();
  expect_rows(received, kNumRanks, round);
  const auto* offsets = static_cast<const std::int64_t*>(received.routing().source_offsets().data);
  EXPECT_EQ(offsets[kOut], offsets[kOut + 1]) << "rows of the masked rank";
  EXPECT_GT(received.routing().num_recv_rows(), 0);
  SmallOutput output(input);
  std::vector<float> carried(static_cast<std::size_t>(received.routing().num_recv_rows() * kTopK), 5.0F);
  std::vector<float> returned(static_cast<std::size_t>(input.num_tokens * kTopK), -1.0F);
  CombineArgs args = output.combine(received.routing(), received.lane(0));
  args.carried_weights = tensor(std::as_const(carried).data(), {received.routing().num_recv_rows(), kTopK});
  args.returned_weights = tensor(returned.data(), {input.num_tokens, kTopK});
  rank.plan.combine(args);
  output.expect_sum_without(input, kNumRanks, {kOut});
  for (std::size_t pair = 0; pair < returned.size(); ++pair) {
    EXPECT_EQ(returned[pair], input.ids[pair] / 2 == kOut ? 0.0F : 5.0F) << "weight " << pair;
  }
}

void expect_expelled(const std::optional<Error>& error) {
  ASSERT_TRUE(error.has_value());
  EXPECT_EQ(error->code(), ErrorCode::kTimeout) << error->what();
  EXPECT_EQ(error->failure().culprit, kOut) << error->what();
  EXPECT_NE(error->failure().reporter, kOut) << error->what();
}

TEST(masks, leave_a_rank_out_until_the_group_recovers) {
  run_small_ranks(
      kNumRanks,
      [](SmallRank& rank) {
        expect_round_trip(rank.plan, rank.rank, kNumRanks, 0);
        EXPECT_THAT(rank.plan.masked_ranks(), IsEmpty());
        rank.meet();
        if (rank.rank != kOut) {
          rank.plan.mask_rank(kOut);
          rank.plan.mask_rank(kOut);
          EXPECT_THAT(rank.plan.masked_ranks(), ElementsAre(kOut));
          for (int round = 0; round < 6; ++round) expect_round_trip_without(rank, round);
          EXPECT_FALSE(rank.group.status().has_value());
        }
        rank.meet();
        if (rank.rank == kOut) {
          expect_expelled(error_of([&] { rank.plan.dispatch(rank.dispatch(kAmple)); }));
          EXPECT_TRUE(rank.group.status().has_value());
        }
        rank.recover_and_go_on();
        EXPECT_THAT(rank.plan.masked_ranks(), IsEmpty());
      },
      latency_shape(kNumRanks));
}

TEST(masks, set_between_the_halves_of_a_call_end_its_wait) {
  run_small_ranks(
      kNumRanks,
      [](SmallRank& rank) {
        rank.meet();  // a rank that is still making its plan would fail in that
        if (rank.rank != kOut) {
          PendingDispatch pending = rank.plan.begin_dispatch(rank.dispatch(kAmple));
          EXPECT_FALSE(pending.done());
          rank.plan.mask_rank(kOut);
          EXPECT_TRUE(pending.wait(kAmple));
          const Received received = pending.complete();
          expect_rows(received, kNumRanks, 0);
          const auto counters = rank.plan.counters();
          EXPECT_EQ(counters[kOut].num_calls, 0);
          EXPECT_EQ(counters[kOut].num_rows, 0);
        }
        rank.recover_and_go_on();
      },
      latency_shape(kNumRanks));
}

TEST(masks, of_a_routing_made_before_still_combine_what_is_there) {
  for (const Layout layout : {Layout::kExpertContiguous, Layout::kExpertPadded}) {
    run_small_ranks(
        kNumRanks,
        [](SmallRank& rank) {
          const Received received = rank.plan.dispatch(rank.dispatch(kAmple));
          rank.meet();
          if (rank.rank != kOut) {
            rank.plan.mask_rank(kOut);
            // Each of a token's experts returns its row as it is, so there are as many terms as experts elsewhere.
            SmallOutput output(rank.input);
            rank.plan.combine(combine_of(output, received, kAmple));
            for (std::int64_t token = 0; token < output.num_tokens; ++token) {
              int num_terms = 0;
              for (int k = 0; k < kTopK; ++k) num_terms += rank.input.ids[token * kTopK + k] / 2 == kOut ? 0 : 1;
              EXPECT_EQ(output.values[token * kHidden], static_cast<float>(num_terms) * rank.input.rows[token * kHidden]);
            }
            rank.plan.dispatch(rank.cached(received.routing(), kAmple));
          }
          rank.meet();
        },
        latency_shape(kNumRanks, layout));
  }
}

TEST(masks, of_late_ranks_come_by_themselves_where_the_shape_says_so) {
  for (const bool silent_in_combine : {false, true}) {
    run_small_ranks(
        kNumRanks,
        [&](SmallRank& rank) {
          constexpr std::chrono::milliseconds kShort = 200ms;
          const SmallInput input(rank.rank, kNumRanks, 0);
          std::optional<Received> received;
          if (silent_in_combine) received = rank.plan.dispatch(rank.dispatch(kAmple));
          rank.meet();
          if (rank.rank != kOut) {
            const Deadline watch(1h);
            if (silent_in_combine) {
              SmallOutput output(input);
              rank.plan.combine(combine_of(output, *received, kShort));
              output.expect_sum_without(input, kNumRanks, {kOut});
            } else {
              received = rank.plan.dispatch(rank.dispatch(kShort));
              expect_rows(*received, kNumRanks, 0);
            }
            EXPECT_GE(watch.elapsed(), kShort);
            EXPECT_LT(watch.elapsed(), kShort + 5s);
            EXPECT_THAT(rank.plan.masked_ranks(), ElementsAre(kOut));
            EXPECT_FALSE(rank.group.status().has_value());
            received.reset();
            const Deadline second_watch(1h);
            for (int round = 0; round < 4; ++round) expect_round_trip_without(rank, round);
            EXPECT_LT(second_watch.elapsed(), kAmple) << "nobody waits for a masked rank";
          }
          rank.meet();
          if (rank.rank == kOut) {
            if (received) received.reset();
            expect_expelled(error_of([&] { rank.plan.dispatch(rank.dispatch(kAmple)); }));
          }
          rank.recover_and_go_on();
          EXPECT_THAT(rank.plan.masked_ranks(), IsEmpty());
        },
        masking_shape());
  }
}

TEST(masks, spare_ranks_that_were_late_because_of_another) {
  run_small_ranks(
      kNumRanks,
      [](SmallRank& rank) {
        // Rank 2 keeps silent, which one of the others learns a call later than the rest: its mask of rank 2 comes when the
        // patience of the rest for it would end.
        rank.meet();
        constexpr std::chrono::milliseconds kShort = 800ms;
        if (rank.rank != kOut) {
          if (rank.rank == 0) std::this_thread::sleep_for(kShort * 3 / 4);
          const Received received = rank.plan.dispatch(rank.dispatch(kShort));
          SmallOutput output(rank.input);
          rank.plan.combine(combine_of(output, received, kShort));
          EXPECT_THAT(rank.plan.masked_ranks(), ElementsAre(kOut));
          output.expect_sum_without(rank.input, kNumRanks, {kOut});
        }
        rank.recover_and_go_on();
      },
      masking_shape());
}

TEST(masks, are_refused_where_they_cannot_be) {
  run_small_ranks(2, [](SmallRank& rank) {
    expect_error([&] { rank.plan.mask_rank(1 - rank.rank); }, ErrorCode::kUnsupported, "in latency mode only");
    EXPECT_THAT(rank.plan.masked_ranks(), IsEmpty());
  });
  run_small_ranks(
      2,
      [](SmallRank& rank) {
        for (const int wrong : {-1, 2, rank.rank}) {
          expect_error([&] { rank.plan.mask_rank(wrong); }, ErrorCode::kInvalidArgument,
                       "cannot be masked: name another rank, from 0 to 1");
        }
        expect_round_trip(rank.plan, rank.rank, 2, 0);
      },
      latency_shape(2));
}

TEST(counters, name_the_rank_that_was_late) {
  for (const Layout layout : {Layout::kCompact, Layout::kExpertContiguous}) {
    run_small_ranks(
        kNumRanks,
        [](SmallRank& rank) {
          constexpr int kNumRounds = 5;
          std::atomic<bool> over{false};
          std::thread reader([&] {  // a snapshot at any time
            while (!over) EXPECT_EQ(rank.plan.counters().size(), kNumRanks);
          });
          std::vector<std::uint64_t> num_rows(kNumRanks, 0);
          for (int round = 0; round < kNumRounds; ++round) {
            rank.meet();
            if (rank.rank == kOut) std::this_thread::sleep_for(20ms);
            const Received received = rank.plan.dispatch(rank.dispatch(kAmple));
            const auto* offsets = static_cast<const std::int64_t*>(received.routing().source_offsets().data);
            for (int source = 0; source < kNumRanks; ++source) {
              num_rows[source] += static_cast<std::uint64_t>(offsets[source + 1] - offsets[source]);
            }
            rank.meet();
            if (rank.rank == kOut) std::this_thread::sleep_for(20ms);
            SmallOutput output(rank.input);
            rank.plan.combine(combine_of(output, received, kAmple));
          }
          over = true;
          reader.join();
          const std::vector<PeerCounters> counters = rank.plan.counters();
          for (int peer = 0; peer < kNumRanks; ++peer) {
            EXPECT_EQ(counters[peer].num_calls, 2 * kNumRounds);
            EXPECT_EQ(counters[peer].num_rows, num_rows[peer]);
            if (rank.rank == kOut || peer == kOut) continue;
            EXPECT_GT(counters[kOut].wait_nanoseconds, counters[peer].wait_nanoseconds)
                << "rank " << rank.rank << " of " << peer;
          }
          if (rank.rank != kOut) {
            EXPECT_GT(counters[kOut].wait_nanoseconds, 2 * kNumRounds * 10'000'000ULL);
          }
          rank.meet();
        },
        latency_shape(kNumRanks, layout));
  }
}

}  // namespace
}  // namespace tokenyard::test
