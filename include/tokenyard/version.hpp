// The version of the library, its wire format and its plan layout.
#pragma once

#define TOKENYARD_VERSION_MAJOR 0
#define TOKENYARD_VERSION_MINOR 1
#define TOKENYARD_VERSION_PATCH 0

namespace tokenyard {

// "0.1.0"
const char* version() noexcept;

// Ranks must agree on this number. It rises with every change to the rendezvous messages, the control pages or a plan's
// regions.
inline constexpr unsigned kWireVersion = 4;

}  // namespace tokenyard
