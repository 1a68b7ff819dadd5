// Where and how a call runs on a GPU.
#pragma once

#include <cstdint>

// The driver's types, so that no header of CUDA is needed: cudaStream_t and CUstream, cudaEvent_t and CUevent.
struct CUstream_st;
struct CUevent_st;

namespace tokenyard {

using Stream = CUstream_st*;
using Event = CUevent_st*;

// What moves rows on a GPU.
enum class Copies : std::uint8_t {
  kChosen,  // kBulk where the GPU has it
  kBulk,    // asynchronous bulk copies, Hopper and later: few SMs fill the link
  kPlain,   // loads and stores of 16 bytes: any GPU
  // Rows are packed, the GPU's copy engines carry them, and they are summed as they come: num_sms pack and reduce. Until the
  // first of a dispatch are packed, the same SMs store others at a peer: less than a quarter of what it gets. The host has to
  // know how many rows there are, so this is for Overflow::kGrow alone, in groups with GroupOptions::copy_engines; every rank
  // needs a GPU of its own; and a combine needs its rows in the slot (kCompact, Received::combine_buffer()).
  // Error(kUnsupported) otherwise.
  kEngine,
};
const char* to_string(Copies copies) noexcept;

// For groups on GPUs; ranks in host memory take the defaults alone (otherwise Error(kUnsupported)). May differ per rank.
// docs/gpu.md says what the caller orders, and what may be captured in a graph.
struct Execution {
  // Everything of the call runs in this stream of the group's device, in the order of the calls. Null: the default stream.
  // A slot's next dispatch must stand behind all that reads or writes the slot's rows; if that is in other streams, wait_for
  // says so. Calls of the same slot, and calls with the same Routing, are kept in order by the library, whatever their streams,
  // unless they are captured.
  Stream stream = nullptr;
  Event wait_for = nullptr;  // the call begins when this event is past
  Event record = nullptr;    // recorded behind the call
  int num_sms = 0;           // that the call may occupy, 1 to those of the device; 0: the group's
  Copies copies = Copies::kChosen;
};

}  // namespace tokenyard
