// What the demonstration tells people.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/demo_reference.hpp"
#include "cli/demo_setup.hpp"

namespace tokenyard::cli {

struct DemoOutcome {
  std::vector<std::vector<std::int64_t>> rows_from;  // [destination][source]
  std::int64_t num_pairs = 0;                        // (token, expert) pairs
  double layer_seconds = 0;
  std::int64_t num_wrong_choices = 0;
  double factor = 0;  // on the magnitudes, in the bound
  Comparison comparison;

  bool ok() const { return num_wrong_choices == 0 && comparison.num_beyond == 0; }
};

std::string demo_heading(const DemoSetup& setup);
std::string demo_traffic(const DemoSetup& setup, const DemoOutcome& outcome);
std::string demo_verdict(const DemoSetup& setup, const DemoOutcome& outcome);

}  // namespace tokenyard::cli
