// Kernels as users may write them, with the verbs of tokenyard/device.cuh.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tokenyard/device_window.hpp"
#include "tokenyard/execution.hpp"

namespace tokenyard::test {

enum class TeamKind { kThread, kWarp, kBlock };

// A window with a flag per writer at its beginning, and a part per writer behind kPartsOffset.
inline constexpr std::size_t kPartsOffset = 1024;

// Every rank puts a part into every rank's window, signals, waits for all parts of its own and copies them out.
struct ExchangeParts {
  DeviceWindow window{};
  const std::byte* source = nullptr;  // [R, part_bytes], by receiver
  std::byte* received = nullptr;      // [R, part_bytes], by writer
  std::size_t part_bytes = 0;
  std::uint64_t round = 0;      // what flags become
  int* num_failures = nullptr;  // waits that ended too early
};
void exchange_parts(TeamKind kind, const ExchangeParts& args, Stream stream);

// 4 blocks of 64 threads, each of which adds 1 to a word of every rank.
inline constexpr std::uint64_t kNumAdders = 256;
void add_from_all_threads(const DeviceWindow& window, std::size_t offset, Stream stream);

// A block of 96 threads that waits for a word to be 1. Counts the threads that were told of success.
void wait_in_block(const DeviceWindow& window, std::size_t offset, std::uint64_t timeout_nanoseconds, int* num_told,
                   Stream stream);

// So that no kernel is loaded behind one that waits.
void load_test_kernels();

}  // namespace tokenyard::test
