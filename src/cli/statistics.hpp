// What many measurements come down to.
#pragma once

#include <vector>

namespace tokenyard::cli {

struct Summary {
  double p50 = 0;
  double p99 = 0;
  double max = 0;
};

// The smallest of the values that at least `percent` per cent of all values do not exceed (the nearest-rank percentile: always
// one of the values). `values` must not be empty; percent in (0, 100].
double percentile(std::vector<double> values, double percent);

Summary summarize(const std::vector<double>& values);

// values_of_ranks[r][i]: what rank r measured in iteration i. Returns the largest value of each iteration: the slowest rank
// counts.
std::vector<double> slowest_of_ranks(const std::vector<std::vector<double>>& values_of_ranks);

}  // namespace tokenyard::cli
