// A placement of experts as a text file.
#pragma once

#include <string>

#include "tokenyard/shape.hpp"

namespace tokenyard::cli {

// One line per rank, the first for rank 0: the ids of its experts, separated by spaces or commas. An empty line is a rank
// without experts; lines that begin with # are skipped. Throws Error with the line's number for anything else.
PlacementTable read_placement(const std::string& path);
PlacementTable parse_placement(const std::string& text, const std::string& name);

}  // namespace tokenyard::cli
