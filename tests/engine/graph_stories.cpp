#include "tests/engine/graph_stories.hpp"

#include <gtest/gtest.h>

#include <chrono>

#include "tests/support/number_in_environment.hpp"
#include "tests/support/spin_kernel.hpp"

namespace tokenyard::test::graphs {
namespace {

// TOKENYARD_TEST_REPLAYS asks for another number.
int num_replays() { return static_cast<int>(number_in_environment("TOKENYARD_TEST_REPLAYS", 1000)); }

void maybe_delay(const GpuRank& gpu, RandomBits* random) {
  if (random->one_in(8)) enqueue_delay(gpu.stream(), std::chrono::microseconds(random->any_magnitude(1, 200)));
}

}  // namespace

void replay(const Group& group, const Layer& layer, const Inputs& inputs, GpuRank* gpu) {
  GraphRank rank(group, layer, inputs, gpu, gpu->stream());
  rank.capture(0);
  group.barrier();
  RandomBits random(seed_of(23, group.rank()));
  for (int replay = 0; replay < num_replays() && !testing::Test::HasFailure(); ++replay) {
    maybe_delay(*gpu, &random);
    rank.replay(input_of(replay));
    if (rank.is_full()) rank.check("replay " + std::to_string(replay));
  }
  rank.check("at the end");
}

void replay_and_call(const Group& group, const Layer& layer, const Inputs& inputs, GpuRank* gpu) {
  GraphRank rank(group, layer, inputs, gpu, gpu->stream());
  rank.call(1, -1);
  rank.capture(0);
  group.barrier();
  for (int step = 0; step < num_replays() / 2 && !testing::Test::HasFailure(); ++step) {
    RandomBits choice(seed_of(29, step));
    if (choice.one_in(2)) {
      rank.replay(input_of(step));
    } else {
      rank.call(input_of(step), choice.pick({0, 1, -1}));
    }
    if (rank.is_full()) rank.check("step " + std::to_string(step));
  }
  rank.check("at the end");
}

void replay_two_plans(const Group& group, const Inputs& compact, const Inputs& contiguous, GpuRank* gpu) {
  GraphRank first(group, kCompact, compact, gpu, gpu->stream());
  GraphRank second(group, kContiguous, contiguous, gpu, gpu->other_stream());
  first.capture(0);
  second.capture(1);
  group.barrier();
  RandomBits random(seed_of(31, group.rank()));
  for (int replay = 0; replay < num_replays() && !testing::Test::HasFailure(); ++replay) {
    // Ranks need not start the plans' replays in the same order.
    const bool first_goes_first = random.one_in(2);
    maybe_delay(*gpu, &random);
    if (first_goes_first) first.replay(input_of(replay));
    second.replay(input_of(replay + 1));
    if (!first_goes_first) first.replay(input_of(replay));
    if (!first.is_full()) continue;
    first.check("replay " + std::to_string(replay));
    second.check("replay " + std::to_string(replay));
  }
  first.check("at the end");
  second.check("at the end");
}

}  // namespace tokenyard::test::graphs
