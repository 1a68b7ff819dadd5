// What ranks tell each other about a slot, and where each of them writes it.
//
// A slot is used in turns: turn n of a slot is one dispatch or one combine. Per (slot, peer) a rank owns one line of memory
// that only this peer writes. Each of its words carries (generation, turn) and is compared for equality: a newer one means that
// this rank was left behind.
#pragma once

#include <cstdint>

#include "tokenyard/shape.hpp"

namespace tokenyard {

// Dispatch and combine of one slot have lines and turns of their own: a result may be live while a combine is under way.
enum class Track : std::uint8_t { kDispatch, kCombine };
inline constexpr int kNumTracks = 2;

enum class CallKind : std::uint8_t { kDispatch = 1, kCachedDispatch = 2, kCombine = 3 };

struct alignas(64) PeerLine {
  std::uint64_t enter;  // the peer has entered turn n: what it says about its call and, in a dispatch, its counts are there
  std::uint64_t call;   // GPUs: a call_word(), written together with `enter`
  std::uint64_t free;   // for turn n the writing peer's slot may be written to
  std::uint64_t data;   // all that the peer sends in turn n is there (or ready to be read at the peer, see in_place_slot)
  std::uint64_t done;   // the peer has read what it reads in place in turn n

  // Hosts: written before `enter`.
  CallKind kind;
  std::int8_t in_place_slot;        // combine: the dispatch slot in which the peer's contributions can be read, or -1
  std::uint8_t with_weights;        // 1 if weights travel with the rows
  std::uint8_t with_given_weights;  // combine: 1 if weights came before the rows
  std::uint64_t routing_id;         // of the Routing that the call works from; 0 for a dispatch that makes one
  std::uint64_t placement;          // fingerprint of the peer's placement
};
static_assert(sizeof(PeerLine) == 64);

// What a rank on a GPU says about its call, in a word: so it travels with `enter` in one access of 16 bytes, which is not torn,
// and need not have arrived before that leaves. Of the Routing and the placement it says a fingerprint of 56 bits.
struct GpuCall {
  CallKind kind = CallKind::kDispatch;
  int in_place_slot = -1;
  bool with_weights = false;
  // Segments of rows (layout/segment.hpp). Dispatch: whether the rank wants them to be announced. Combine: whether it announces
  // those that it sends.
  bool with_segments = false;
  bool carries_rows = false;  // combine: its copy engines carry the contributions home (layout/carried_rows.hpp)
  std::uint64_t routing_id = 0;
  std::uint64_t placement = 0;
};

constexpr std::uint64_t call_word(const GpuCall& call) {
  static_assert(kNumSlots < 4 && static_cast<int>(CallKind::kCombine) < 4);  // two bits each
  const std::uint64_t fingerprint = call.routing_id * 0x9e3779b97f4a7c15ULL + call.placement * 0xd1342543de82ef95ULL;
  return (fingerprint & ~0xffULL) | static_cast<std::uint64_t>(call.kind) | (call.with_weights ? 4U : 0U) |
         (call.with_segments ? 8U : 0U) | static_cast<std::uint64_t>(call.in_place_slot + 1) << 4 |
         (call.carries_rows ? 64U : 0U);
}
constexpr bool with_segments(std::uint64_t call_word) { return (call_word & 8) != 0; }
constexpr bool carries_rows(std::uint64_t call_word) { return (call_word & 64) != 0; }
constexpr int in_place_slot(std::uint64_t call_word) { return static_cast<int>(call_word >> 4 & 3) - 1; }
// Whether ranks that say so make the same call: where rows can be read, who carries them, and whether segments are spoken of
// may differ.
constexpr bool is_same_call(std::uint64_t call_word, std::uint64_t other) {
  constexpr std::uint64_t kMayDiffer = 0x78;
  return ((call_word ^ other) & ~kMayDiffer) == 0;
}

constexpr std::uint64_t signal_word(std::uint16_t generation, std::uint64_t turn) {
  return (static_cast<std::uint64_t>(generation) << 48) | turn;
}
// Of its generation.
constexpr bool is_first_turn(std::uint64_t signal_word) { return signal_word << 16 == std::uint64_t{1} << 16; }

// By which ranks on GPUs recognise a Routing: the number of the dispatch with this signal word in one of all slots of a group's
// plans, which have numbers from 1. Multiples of the golden ratio lie evenly apart, so the turns of a million slots stay
// different for 2^42 turns each. Never 0, which stands for no Routing.
constexpr std::uint64_t routing_number(std::uint64_t signal_word, std::uint64_t slot_number) {
  const std::uint64_t number = signal_word + slot_number * 0x9e3779b97f4a7c15ULL;
  return number == 0 ? 1 : number;
}

}  // namespace tokenyard
