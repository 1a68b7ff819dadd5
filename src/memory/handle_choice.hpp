// By which kind of handle memory of a GPU is passed to other processes.
#pragma once

#include <array>
#include <string>

#include "memory/memory_handle.hpp"

namespace tokenyard {

// What the driver and the system say of a GPU.
struct HandleCapabilities {
  bool has_virtual_memory = false;
  bool has_descriptors = false;
  bool has_fabric_handles = false;
  bool has_imex_channel = false;  // that this process may use
  bool has_ipc = false;
};

struct HandleOffer {
  HandleKind kind = HandleKind::kNone;
  std::string obstacle{};  // why memory cannot be passed that way; empty: it can

  bool is_offered() const noexcept { return obstacle.empty(); }
};

// The best first: descriptors keep memory alive by themselves and need no service beside the driver; CUDA IPC comes last,
// because its memory ends with its owner's process.
using HandleOffers = std::array<HandleOffer, 3>;

HandleOffers offers_of(const HandleCapabilities& capabilities);

// The kind that TOKENYARD_GPU_HANDLE names; kNone if it is not set. Error(kInvalidArgument) if it names none.
HandleKind wanted_handle();

// `wanted`, or the first kind that is offered if that is kNone. Throws Error(kUnsupported) with the reasons if it is not
// offered, or none is.
HandleKind choose_handle(const HandleOffers& offers, HandleKind wanted);

}  // namespace tokenyard
