// What all ranks of a benchmark know before they start.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/bench_expectation.hpp"
#include "cli/options.hpp"
#include "cli/routing_source.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard::cli {

// Calls with one number of tokens per rank.
struct BenchSetup {
  BenchOptions options;
  int num_ranks = 1;
  std::int64_t num_tokens = 0;
  std::string rank_description;  // for people: "2 processes of this host"
  Shape shape;
  std::vector<Lane> given_lanes;  // what a rank gives to dispatch: the shape's lanes, unless dispatch quantises
  RoutingChoice routing;
  std::vector<ExpectedRank> expected;  // by rank
  bool caller_outputs = false;         // results in the caller's memory rather than in the slot
  bool bound = false;                  // each rank to a core of its own
  bool cold_caches = true;             // made so before every operation
  int num_iterations = 0;
  int num_warmups = 0;
  bool shows_progress = true;

  std::int64_t dispatch_row_bytes = 0;  // all lanes of a token
  std::int64_t combine_row_bytes = 0;   // 0: the payload cannot be summed

  // Where dispatch quantises and rows are checked: what arrives, by source and lane, [num_tokens, row] each.
  std::vector<std::vector<std::vector<std::byte>>> quantized;

  bool can_combine() const { return combine_row_bytes > 0; }
  bool can_combine_in_place() const;

  // Rows that dispatch delivers on all ranks together, by whether they come from another rank.
  std::int64_t num_wire_rows() const;
  std::int64_t num_local_rows() const;
};

// Whether the options suit the device that they name: throws UsageError where they do not.
void check_device_options(const BenchOptions& options);

// One setup for each number of tokens, exactly one in throughput mode. Their shapes are equal, so that one plan serves all of
// them. Throws UsageError and Error as run_bench does.
std::vector<BenchSetup> make_bench_setups(const BenchOptions& options, int num_ranks);

}  // namespace tokenyard::cli
