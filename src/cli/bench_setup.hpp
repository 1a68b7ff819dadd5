// What all ranks of a benchmark know before they start.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/bench_expectation.hpp"
#include "cli/options.hpp"
#include "cli/routing_source.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard::cli {

struct BenchSetup {
  BenchOptions options;
  int num_ranks = 1;
  std::string rank_description;  // for people: "2 processes of this host"
  Shape shape;
  RoutingChoice routing;
  std::vector<ExpectedRank> expected;  // by rank
  bool caller_outputs = false;         // results in the caller's memory rather than in the slot
  bool bound = false;                  // each rank to a core of its own

  std::int64_t dispatch_row_bytes = 0;  // all lanes of a token
  std::int64_t combine_row_bytes = 0;   // 0: the payload cannot be summed

  bool can_combine() const { return combine_row_bytes > 0; }
  bool can_combine_in_place() const;

  // Rows that dispatch delivers on all ranks together, by whether they come from another rank.
  std::int64_t num_wire_rows() const;
  std::int64_t num_local_rows() const;
};

// Throws UsageError and Error as run_bench does.
BenchSetup make_bench_setup(const BenchOptions& options, int num_ranks);

}  // namespace tokenyard::cli
