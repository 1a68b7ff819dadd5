#include "base/hooks.hpp"

#ifdef TOKENYARD_TEST_HOOKS

#include <sched.h>
#include <time.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace tokenyard {
namespace {

constexpr std::array<std::pair<std::string_view, Fault>, 21> kFaultNames{{
    {"kRegionsOverlap", Fault::kRegionsOverlap},
    {"kReplicasTakeNoTurns", Fault::kReplicasTakeNoTurns},
    {"kPlaceBaseOffByOne", Fault::kPlaceBaseOffByOne},
    {"kPlaceDropsOneTooMany", Fault::kPlaceDropsOneTooMany},
    {"kCountDuplicateRank", Fault::kCountDuplicateRank},
    {"kPushShortRow", Fault::kPushShortRow},
    {"kPushWeightOfNeighbour", Fault::kPushWeightOfNeighbour},
    {"kExpandIgnoresAlignment", Fault::kExpandIgnoresAlignment},
    {"kFoldReversesTopK", Fault::kFoldReversesTopK},
    {"kFoldRoundsEveryTerm", Fault::kFoldRoundsEveryTerm},
    {"kReduceReversesRanks", Fault::kReduceReversesRanks},
    {"kReduceForgetsSecondBias", Fault::kReduceForgetsSecondBias},
    {"kSignalBeforeRows", Fault::kSignalBeforeRows},
    {"kArrivalsOffByOne", Fault::kArrivalsOffByOne},
    {"kArrivalsForgetLastWord", Fault::kArrivalsForgetLastWord},
    {"kArrivalsStayFromBefore", Fault::kArrivalsStayFromBefore},
    {"kSourcesSharePlaces", Fault::kSourcesSharePlaces},
    {"kMaskedRowsAreDelivered", Fault::kMaskedRowsAreDelivered},
    {"kGivenWeightsOfOtherSlot", Fault::kGivenWeightsOfOtherSlot},
    {"kCountersOfNeighbour", Fault::kCountersOfNeighbour},
    {"kReturnPlaceByOrdinal", Fault::kReturnPlaceByOrdinal},
}};

Fault fault_from_environment() noexcept {
  const char* wanted = std::getenv("TOKENYARD_FAULT");
  if (wanted == nullptr || *wanted == '\0') return Fault::kNone;
  for (const auto& [name, fault] : kFaultNames) {
    if (name == wanted) return fault;
  }
  std::fprintf(stderr, "TOKENYARD_FAULT=%s names no fault\n", wanted);
  std::abort();
}

std::atomic<std::uint64_t> delay_seed{0};

std::uint64_t next_random() noexcept {
  // One splitmix64 stream per thread, told apart by the address of its state.
  thread_local std::uint64_t state = delay_seed.load(std::memory_order_relaxed) ^ reinterpret_cast<std::uintptr_t>(&state);
  std::uint64_t z = (state += 0x9e3779b97f4a7c15);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

}  // namespace

bool has_fault(Fault fault) noexcept {
  static const Fault active = fault_from_environment();
  return active == fault;
}

std::vector<std::string> fault_names() {
  std::vector<std::string> names;
  for (const auto& [name, fault] : kFaultNames) names.emplace_back(name);
  return names;
}

void set_delay_seed(std::uint64_t seed) noexcept { delay_seed.store(seed, std::memory_order_relaxed); }

void delay_point() noexcept {
  if (delay_seed.load(std::memory_order_relaxed) == 0) return;
  const std::uint64_t draw = next_random();
  if (draw % 4 != 0) return;
  if (draw % 64 != 0) {
    sched_yield();
    return;
  }
  const timespec nap{0, static_cast<long>((draw >> 32) % 20'000)};
  nanosleep(&nap, nullptr);
}

}  // namespace tokenyard

#endif
