// A Window as kernels see it. The verbs are in device.cuh.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tokenyard {

enum class Compare : std::uint8_t { kEqual, kNotEqual, kGreaterEqual };

// Made by Window::device_window(), to be passed to kernels of the group's device by value. Good as long as a Window that shares
// the region is there.
struct DeviceWindow {
  int rank = 0;
  int num_ranks = 0;
  std::size_t num_bytes = 0;                 // per rank
  std::byte* const* regions = nullptr;       // [num_ranks], on the device: null for ranks of other domains
  std::uint64_t* const* failures = nullptr;  // [num_ranks], on the device: every rank's failure word, or null
  std::uint64_t timeout_nanoseconds = 0;     // of a wait that names none
  std::uint64_t missed_deadline = 0;         // what a wait that ends too early writes into the failure words
};

}  // namespace tokenyard
