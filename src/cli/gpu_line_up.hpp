// A kernel behind which ranks on GPUs begin at the same time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tokenyard/device_window.hpp"
#include "tokenyard/execution.hpp"

namespace tokenyard::cli {

// Bytes at the beginning of a window in which ranks meet.
constexpr std::size_t line_up_bytes(int num_ranks) { return static_cast<std::size_t>(num_ranks) * sizeof(std::uint64_t); }

// Waits in the stream until `*gate` is `round` or more, by which the host says that it has enqueued what follows, but 20 ms at
// most: the host may be waiting for the GPU. Then meets the other ranks; `round` grows by 1 from call to call. A rank that does
// not come becomes the group's failure. `gate` is memory of the host that the GPU reads.
void enqueue_line_up(const DeviceWindow& window, const std::uint64_t* gate, std::uint64_t round, Stream stream);

// Loads the kernel: that cannot be done while another rank's kernels wait.
void load_line_up();

// Kernels that do nothing, for what a launch costs; and a word that goes to the other GPU and back `num_trips` times, between
// `own_word` here and `peer_word` there, both 0 at first. The side that `begins` sends first. Gives up after a second.
void enqueue_nothing(Stream stream);
void enqueue_round_trips(std::uint64_t* own_word, std::uint64_t* peer_word, int num_trips, bool begins, Stream stream);

}  // namespace tokenyard::cli
