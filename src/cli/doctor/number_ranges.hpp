// Sets of small numbers as people write them: cores, ranks.
#pragma once

#include <string>
#include <vector>

namespace tokenyard::cli {

// Ascending numbers as "0-3, 7".
std::string to_ranges(const std::vector<int>& numbers);

}  // namespace tokenyard::cli
