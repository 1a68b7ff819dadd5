// The findings of many ranks as one page.
#pragma once

#include "cli/doctor/finding.hpp"

namespace tokenyard::cli {

// One list per rank, in rank order, made one list: ordered by section, then by first appearance. What is well on several ranks
// becomes one line with the first rank's value; what is not well is one line per different value and cure, with the ranks that
// say so and the longest of their reasons.
Findings merge(const std::vector<Findings>& by_rank);

}  // namespace tokenyard::cli
