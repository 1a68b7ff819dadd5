// One rank of a benchmark of latency mode: runs the operations and, between them, what they are compared with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/bench_setup.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::cli {

// The bytes of rows that one rank moves in an operation; of every step the rows that it reads or those that it writes,
// whichever are more.
struct RowBytes {
  std::size_t gathered = 0;             // read by combine to be summed, as far as they are more than the sums that are sent
  std::vector<std::size_t> sent{};      // by rank, its own included: one row per (token, destination rank)
  std::vector<std::size_t> received{};  // by rank
  std::size_t delivered = 0;  // dispatch: received rows, as often as their layout repeats them; combine: received sums
};

RowBytes bytes_of_dispatch(const BenchSetup& setup, int rank);
RowBytes bytes_of_combine(const BenchSetup& setup, int rank);

// What one rank measured of one operation with one number of tokens; by iteration, warm-ups not counted.
struct LatencyMeasurement {
  std::string operation;  // dispatch, combine, or both: one directly after the other
  std::int64_t gathered_bytes = 0;
  std::int64_t sent_bytes = 0;
  std::int64_t delivered_bytes = 0;
  std::vector<double> microseconds;
  // The yardstick: two flag round trips, and memcpys of the rows that are gathered, sent and delivered.
  std::vector<double> flag_microseconds;
  std::vector<double> memcpy_microseconds;
  std::int64_t wrong_rows = 0;  // over all iterations, warm-ups included
};

// Collective. By setup, then by operation, alike on all ranks.
std::vector<std::vector<LatencyMeasurement>> measure_latency_rank(const std::vector<BenchSetup>& setups, const Group& group);

}  // namespace tokenyard::cli
