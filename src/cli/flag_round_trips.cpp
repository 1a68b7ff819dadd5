#include "cli/flag_round_trips.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::size_t kWord = 0;  // of a rank's window: written by its partner alone
constexpr std::size_t kWindowBytes = 64;

int partner_of(const Group& group) {
  const int partner = group.rank() ^ 1;
  return partner < group.num_ranks() ? partner : group.rank();
}

}  // namespace

FlagRoundTrips::FlagRoundTrips(const Group& group) : window_(group.window(kWindowBytes)), partner_(partner_of(group)) {}

void FlagRoundTrips::run(int num_trips) {
  const bool begins = window_.rank() <= partner_;
  for (int i = 0; i < num_trips; ++i) {
    ++trip_;
    if (begins) window_.signal(partner_, kWord, trip_);
    window_.wait(kWord, Compare::kGreaterEqual, trip_);
    if (!begins) window_.signal(partner_, kWord, trip_);
  }
}

}  // namespace tokenyard::cli
