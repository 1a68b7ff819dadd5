// Ranks as people read them.
#pragma once

#include <span>
#include <string>

namespace tokenyard {

// "rank 3", "ranks 1, 4-7", "no rank"; a list of many separate pieces is cut and says how many ranks follow. Takes ranks in
// rising order.
std::string list_ranks(std::span<const int> ranks);

}  // namespace tokenyard
