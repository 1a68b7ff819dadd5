// By which handles ranks that are processes can share memory of GPUs.
#pragma once

#include <vector>

#include "cli/doctor/finding.hpp"
#include "memory/handle_choice.hpp"

namespace tokenyard::cli {

// One line: the kinds that all GPUs offer, the best first, and why the others are missing. `by_gpu` is not empty.
void report_handles(SectionFindings& findings, const std::vector<HandleOffers>& by_gpu);

}  // namespace tokenyard::cli
