// What ranks do with captured layers, told once for ranks as threads and as processes. Each is collective.
#pragma once

#include "tests/engine/graph_rank.hpp"

namespace tokenyard::test::graphs {

// 1,000 replays, whose inputs change from one to the next.
void replay(const Group& group, const Layer& layer, const Inputs& inputs, GpuRank* gpu);

// Replays and calls that are not captured, in the slot of the graph, in the other one, and in whichever is next.
void replay_and_call(const Group& group, const Layer& layer, const Inputs& inputs, GpuRank* gpu);

// A compact and a contiguous layer, each with a plan, a graph and a stream of its own.
void replay_two_plans(const Group& group, const Inputs& compact, const Inputs& contiguous, GpuRank* gpu);

}  // namespace tokenyard::test::graphs
