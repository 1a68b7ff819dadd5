#include "cli/start_line.hpp"

#include <fmt/core.h>

#include <cstddef>

namespace tokenyard::cli {
namespace {

constexpr std::size_t kLineBytes = 64;  // a cache line per writer

std::size_t word_of(int rank) { return static_cast<std::size_t>(rank) * kLineBytes; }

}  // namespace

StartLine::StartLine(const Group& group)
    : group_(group), window_(group.window(static_cast<std::size_t>(group.num_ranks()) * kLineBytes)) {}

void StartLine::wait_for_all() {
  group_.barrier();  // notices at once when a rank has died
  line_up();
}

void StartLine::line_up() {
  ++round_;
  for (int peer = 0; peer < window_.num_ranks(); ++peer) window_.signal(peer, word_of(window_.rank()), round_);
  for (int peer = 0; peer < window_.num_ranks(); ++peer) {
    try {
      window_.wait(word_of(peer), Compare::kGreaterEqual, round_);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kTimeout) throw;
      throw Error(Failure{.code = ErrorCode::kTimeout, .phase = Phase::kBarrier, .culprit = peer, .reporter = window_.rank()},
                  fmt::format("rank {} waited {} ms for rank {} in {}", window_.rank(), group_.timeout().count(), peer,
                              to_string(Phase::kBarrier)));
    }
  }
}

}  // namespace tokenyard::cli
