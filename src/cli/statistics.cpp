#include "cli/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace tokenyard::cli {

double percentile(std::vector<double> values, double percent) {
  const double wanted = std::ceil(percent / 100.0 * static_cast<double>(values.size()));
  const auto position = static_cast<std::ptrdiff_t>(std::clamp(wanted, 1.0, static_cast<double>(values.size()))) - 1;
  std::nth_element(values.begin(), values.begin() + position, values.end());
  return values[static_cast<std::size_t>(position)];
}

Summary summarize(const std::vector<double>& values) {
  return {.p50 = percentile(values, 50), .p99 = percentile(values, 99), .max = percentile(values, 100)};
}

std::vector<double> slowest_of_ranks(const std::vector<std::vector<double>>& values_of_ranks) {
  std::vector<double> slowest = values_of_ranks.front();
  for (const std::vector<double>& values : values_of_ranks) {
    for (std::size_t i = 0; i < slowest.size(); ++i) slowest[i] = std::max(slowest[i], values[i]);
  }
  return slowest;
}

}  // namespace tokenyard::cli
