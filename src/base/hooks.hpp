// Places where a test build may interfere: seeded delays that shake the order of events, and listed faults that the tests
// must notice. In every other build both vanish at compile time.
#pragma once

#include <cstdint>

#ifdef TOKENYARD_WITHOUT_HOOKS
#error "what uses hooks is compiled with and without them: list it so in src/CMakeLists.txt"
#endif

#ifdef TOKENYARD_TEST_HOOKS
#include <string>
#include <vector>
#endif

namespace tokenyard {

enum class Fault : std::uint8_t {
  kNone,
  kRegionsOverlap,           // layout: a region of a slot begins where the one before does
  kReplicasTakeNoTurns,      // layout: the first replica of an expert serves all tokens
  kPlaceBaseOffByOne,        // kernels: a source's first row at its destination is one too far
  kPlaceDropsOneTooMany,     // kernels: capacity drops a row that fits
  kCountDuplicateRank,       // kernels: a token visits a rank twice when two of its experts live there
  kPushShortRow,             // kernels: the last 16 bytes of a row are not sent
  kPushWeightOfNeighbour,    // kernels: a token travels with the weights of the token before it
  kExpandIgnoresAlignment,   // kernels: expert groups are packed without alignment
  kFoldReversesTopK,         // kernels: a rank's own rows are summed in reverse top-k order
  kFoldRoundsEveryTerm,      // kernels: a rank's partial sum is rounded after every term
  kReduceReversesRanks,      // kernels: ranks are summed in reverse order
  kReduceForgetsSecondBias,  // kernels: only the first bias is added
  kSignalBeforeRows,         // engine: the rows' signal is raised before the rows are written
  // Latency mode
  kArrivalsOffByOne,         // engine: the bits say the token behind the one that was sent
  kArrivalsForgetLastWord,   // engine: of several words of bits the last one is not read
  kArrivalsStayFromBefore,   // engine: a source without tokens says nothing, so its bits of an earlier turn count again
  kSourcesSharePlaces,       // engine: all sources write to the places of rank 0
  kMaskedRowsAreDelivered,   // engine: bits that a masked rank has left are read
  kGivenWeightsOfOtherSlot,  // engine: weights given at combine are taken from the other slot
  kCountersOfNeighbour,      // engine: rows are counted for the rank before the one that sent them
  kReturnPlaceByOrdinal,     // kernels: the home looks for a contribution where another rank's stands
};

#ifdef TOKENYARD_TEST_HOOKS

// Whether the fault named by TOKENYARD_FAULT (its enumerator's name) is `fault`. The environment is read once.
bool has_fault(Fault fault) noexcept;

// The names of all faults.
std::vector<std::string> fault_names();

// Sleeps or yields for a random while with some probability; off until set_delay_seed was called with a value other than 0.
void delay_point() noexcept;
void set_delay_seed(std::uint64_t seed) noexcept;

#else

constexpr bool has_fault(Fault) noexcept { return false; }
constexpr void delay_point() noexcept {}

#endif

}  // namespace tokenyard
