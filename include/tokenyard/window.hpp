// A partitioned global address space: an equally large region on every rank, which its peers reach by rank and offset.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "tokenyard/device_window.hpp"
#include "tokenyard/execution.hpp"

namespace tokenyard {

// Made by Group::window(). Copies share the region; the memory stays mapped until the last copy on every rank is gone, and
// letting go never blocks. Offsets and lengths are bytes; signals and counters are 8-byte words at multiples of 8.
//
// Ordering, in short (docs/memory-model.md argues it, weakly ordered processors included):
//  - put and get return when the local side is done: `source` may be reused, `destination` may be read.
//  - signal and atomic_add are releases: whoever acquires the new value with wait, load or atomic_add sees every earlier put
//    of the same thread to the same peer.
//  - puts are not ordered among themselves. fence(peer) orders the puts before it with the puts and signals after it, for one
//    peer; quiet() returns when all puts of this thread are visible at all peers.
//
// Any number of threads may use one Window. Nothing here is collective; only wait blocks. Errors: kInvalidArgument for a
// rank, offset or length outside the window, kUnsupported for a peer that cannot be reached.
//
// Groups on GPUs have windows in the memory of their GPUs, for three kinds of users:
//  - The host, by the same verbs with the same promises: put and get are copies, signal and atomic_add kernels of one warp, in
//    a stream of the window's own, for whose end they wait. Each call costs some ten microseconds, a `wait` one copy of a word
//    per look. `source` and `destination` may be memory of the host or of a GPU.
//  - A stream, by the verbs that take one. They enqueue and return, may be captured in a graph, and run in the stream's order:
//    a signal releases what the stream did before it, and a wait holds up what comes behind it. A put's `source` stays as it is
//    until the stream has come by it. What peers have put is read by ordinary copies from local() or mapped().
//  - Kernels, by device_window() and the verbs of tokenyard/device.cuh.
// Let go of the last copy only when kernels and streams of this rank have done with the window, and make windows while no
// kernel waits for another rank. Streams of ranks that are threads need queues of their own: CUDA_DEVICE_MAX_CONNECTIONS=32.
class Window {
 public:
  std::byte* local() const noexcept;       // this rank's region, 4096-byte aligned, zero at first; on a GPU: an address there
  std::size_t num_bytes() const noexcept;  // per rank
  int rank() const noexcept;
  int num_ranks() const noexcept;

  // The peer's region mapped into this process, or nullptr where only put and get reach it.
  std::byte* mapped(int peer) const noexcept;

  void put(int peer, std::size_t offset, const void* source, std::size_t num_bytes) const;
  void get(int peer, std::size_t offset, void* destination, std::size_t num_bytes) const;

  void signal(int peer, std::size_t offset, std::uint64_t value) const;
  std::uint64_t atomic_add(int peer, std::size_t offset, std::uint64_t value) const;  // returns the old value

  std::uint64_t load(std::size_t offset) const;  // this rank's word, acquired

  // Blocks until this rank's word at `offset` compares true with `value`; returns the word. Throws Error(kTimeout) with
  // expected and actual values once `timeout` (default: the group's) has passed, and the group's failure if there is one; the
  // death of any rank of the domain becomes one.
  std::uint64_t wait(std::size_t offset, Compare compare, std::uint64_t value,
                     std::optional<std::chrono::milliseconds> timeout = std::nullopt) const;

  // On GPUs: in a stream of the group's device. Errors of arguments are thrown at once.
  void put(int peer, std::size_t offset, const void* source, std::size_t num_bytes, Stream stream) const;
  void signal(int peer, std::size_t offset, std::uint64_t value, Stream stream) const;
  // One warp that polls this rank's word. If `timeout` (default: the group's) passes first, that becomes the group's failure;
  // then, and if the group has failed before, the stream goes on: Group::status() tells.
  void wait(std::size_t offset, Compare compare, std::uint64_t value, Stream stream,
            std::optional<std::chrono::milliseconds> timeout = std::nullopt) const;

  // For kernels of the group's device.
  const DeviceWindow& device_window() const;

  // Of the host's verbs; those in a stream keep its order.
  void fence(int peer) const;
  void quiet() const;

  class Impl;
  explicit Window(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace tokenyard
