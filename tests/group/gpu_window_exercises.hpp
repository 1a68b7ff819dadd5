// What ranks on GPUs do with a window in streams and in kernels, whether they are threads or processes.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "tests/group/window_kernels.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/window_exercises.hpp"

namespace tokenyard::test {

// Streams of ranks that are threads must not queue behind each other.
inline const bool kHasManyQueues = setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0) == 0;

// A group on GPU rank % num_gpus, which is then the current one, and a stream there.
class GpuRank {
 public:
  GpuRank(std::shared_ptr<Exchange> exchange, int num_gpus, std::chrono::milliseconds timeout = std::chrono::seconds(30))
      : group_(Group::create(exchange, options_for(exchange->rank() % num_gpus, timeout))) {
    check_cuda(cudaSetDevice(*group_.device()), "cudaSetDevice");
    load_test_kernels();
    check_cuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  }
  ~GpuRank() { cudaStreamDestroy(stream_); }
  GpuRank(const GpuRank&) = delete;
  GpuRank& operator=(const GpuRank&) = delete;

  const Group& group() const { return group_; }
  int rank() const { return group_.rank(); }
  int num_ranks() const { return group_.num_ranks(); }
  cudaStream_t stream() const { return stream_; }
  void finish() const { check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize"); }

 private:
  static GroupOptions options_for(int device, std::chrono::milliseconds timeout) {
    GroupOptions options = patient(timeout);
    options.device = device;
    return options;
  }

  Group group_;
  cudaStream_t stream_ = nullptr;
};

inline void exercise_verbs_of_the_host(const GpuRank& self) {
  const auto part = static_cast<std::size_t>(100 * self.num_ranks());
  exercise_put_and_get(self.group(), self.group().window(part));
  exercise_ring(self.group().window(64), 20);
  exercise_additions(self.group(), self.group().window(64), 50);
  const Window messages = self.group().window(128);
  if (self.rank() < 2) exercise_message_passing(messages, 100);
  self.group().barrier();
}

// In its stream every rank puts a number to the next one, signals, waits for its own and keeps it.
inline void exercise_verbs_in_streams(const GpuRank& self, int num_rounds) {
  constexpr std::size_t kFlag = 0, kNumber = 8, kKept = 16;
  const Window window = self.group().window(kKept + 8 * static_cast<std::size_t>(num_rounds));
  const int next = (self.rank() + 1) % self.num_ranks();
  const int previous = (self.rank() + self.num_ranks() - 1) % self.num_ranks();
  std::vector<std::uint64_t> numbers;
  for (int round = 1; round <= num_rounds; ++round) numbers.push_back(static_cast<std::uint64_t>(1000 * round + self.rank()));
  const DeviceArray<std::uint64_t> source(numbers);
  self.group().barrier();
  for (int round = 1; round <= num_rounds; ++round) {
    const auto turn = static_cast<std::uint64_t>(round);
    window.put(next, kNumber, source.data() + (round - 1), 8, self.stream());
    window.signal(next, kFlag, turn, self.stream());
    window.wait(kFlag, Compare::kGreaterEqual, turn, self.stream());
    window.put(self.rank(), kKept + 8 * static_cast<std::size_t>(round - 1), window.local() + kNumber, 8, self.stream());
    self.finish();
    self.group().barrier();  // nobody overwrites a number that has not been kept
  }
  std::vector<std::uint64_t> kept(numbers.size());
  window.get(self.rank(), kKept, kept.data(), 8 * kept.size());
  for (int round = 1; round <= num_rounds; ++round) {
    EXPECT_EQ(kept[static_cast<std::size_t>(round - 1)], static_cast<std::uint64_t>(1000 * round + previous));
  }
  self.group().barrier();
}

inline void exercise_kernels(const GpuRank& self, TeamKind kind, std::size_t part_bytes) {
  const auto num_ranks = static_cast<std::size_t>(self.num_ranks());
  const Window window = self.group().window(kPartsOffset + num_ranks * part_bytes + 8);
  const auto byte_of = [](int writer, int reader, std::size_t i, int round) {
    return static_cast<std::byte>(31 * writer + 7 * reader + static_cast<int>(i % 251) + 101 * round);
  };
  std::vector<std::byte> parts(num_ranks * part_bytes);
  DeviceArray<std::byte> source(parts.size());
  DeviceArray<std::byte> received(parts.size());
  DeviceArray<int> num_failures(1);
  for (int round = 1; round <= 3; ++round) {
    for (std::size_t i = 0; i < parts.size(); ++i) {
      parts[i] = byte_of(self.rank(), static_cast<int>(i / part_bytes), i % part_bytes, round);
    }
    source.assign(parts);
    self.group().barrier();  // from here on kernels wait for other ranks
    exchange_parts(kind,
                   {.window = window.device_window(),
                    .source = source.data(),
                    .received = received.data(),
                    .part_bytes = part_bytes,
                    .round = static_cast<std::uint64_t>(round),
                    .num_failures = num_failures.data()},
                   self.stream());
    self.finish();
    self.group().barrier();
    EXPECT_EQ(num_failures.contents()[0], 0);
    const std::vector<std::byte> contents = received.contents();
    for (std::size_t i = 0; i < contents.size(); ++i) {
      ASSERT_EQ(contents[i], byte_of(static_cast<int>(i / part_bytes), self.rank(), i % part_bytes, round)) << "byte " << i;
    }
    self.group().barrier();
  }
}

inline void exercise_additions_of_kernels(const GpuRank& self) {
  const Window window = self.group().window(64);
  add_from_all_threads(window.device_window(), 8, self.stream());
  self.finish();
  self.group().barrier();
  EXPECT_EQ(window.load(8), kNumAdders * static_cast<std::uint64_t>(self.num_ranks()));
  self.group().barrier();
}

}  // namespace tokenyard::test
