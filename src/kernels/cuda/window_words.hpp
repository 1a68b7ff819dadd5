// Words of windows in a stream, and from the host: what a Window launches. Each is one kernel of one warp.
#pragma once

#include <cstdint>

#include "tokenyard/device_window.hpp"
#include "tokenyard/execution.hpp"

namespace tokenyard::cuda {

// Loads the kernels below for the current device: loading one behind a kernel that waits would be a deadlock.
void load_window_kernels();

// A release at system scope, behind all that the stream has done.
void store_word(std::uint64_t* word, std::uint64_t value, Stream stream);

// Leaves the old value in *old, which lies on the current device.
void add_to_word(std::uint64_t* word, std::uint64_t value, std::uint64_t* old, Stream stream);

// Holds the stream until this rank's word compares true, or the deadline passes, which becomes the group's failure.
void await_word(const DeviceWindow& window, std::size_t offset, Compare compare, std::uint64_t value,
                std::uint64_t timeout_nanoseconds, Stream stream);

}  // namespace tokenyard::cuda
