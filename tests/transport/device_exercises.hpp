// What peers do with device memory that they share, whether they are threads or processes.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include "tests/kernels/cuda/device_array.hpp"
#include "tests/transport/store_word.hpp"
#include "transport/peers.hpp"

namespace tokenyard::test {

// Where all ranks meet, once.
class Meeting {
 public:
  // Collective. Tags are different.
  Meeting(Peers& peers, std::uint64_t tag)
      : peers_(peers), regions_(peers.share(tag, 8 * peers.num_ranks(), Deadline(peers.timeout()))) {}

  void come() const {
    for (const int peer : peers_.members()) word(peer, peers_.rank()).store(1);
  }
  bool has_come(int peer) const { return word(peers_.rank(), peer).load() == 1; }
  // Also where the group has failed, which waits of the library's report. False if somebody has not come in time.
  bool have_all_come() const {
    const Deadline deadline(peers_.timeout());
    const auto is_there = [&](int peer) { return has_come(peer); };
    while (!std::all_of(peers_.members().begin(), peers_.members().end(), is_there)) {
      if (deadline.passed()) return false;
    }
    return true;
  }

 private:
  std::atomic_ref<std::uint64_t> word(int owner, int writer) const {
    return std::atomic_ref(reinterpret_cast<std::uint64_t*>(regions_[owner]->data())[writer]);
  }

  Peers& peers_;
  std::vector<std::shared_ptr<MemoryRegion>> regions_;
};

// Returns once all ranks have called it with this tag.
inline void meet(Peers& peers, std::uint64_t tag) {
  const Deadline deadline(peers.timeout());
  const Meeting meeting(peers, tag);
  meeting.come();
  for (const int peer : peers.members()) {
    peers.wait(
        peer, Phase::kBarrier, deadline, [&] { return meeting.has_come(peer); },
        [] { return std::string("expected it to meet the others"); });
  }
}

// Every rank writes its part of every rank's region through its own mapping of it, and reads its region back.
inline void exercise_device_memory(Peers& peers) {
  constexpr std::size_t kPart = 1000;
  constexpr std::size_t kNumBytes = (2 << 20) + 1;
  check_cuda(cudaSetDevice(peers.device_place().device), "cudaSetDevice");
  const auto regions = peers.share(50, kNumBytes, Deadline(peers.timeout()), peers.device_place());
  const auto part_of = [](int writer, int owner) {
    return std::vector<std::uint8_t>(kPart, static_cast<std::uint8_t>(1 + 16 * writer + owner));
  };
  for (const int owner : peers.members()) {
    EXPECT_EQ(regions[owner]->num_bytes(), kNumBytes);
    EXPECT_GE(regions[owner]->device(), 0);
    EXPECT_EQ(regions[owner]->device_data(peers.device_place().device), regions[owner]->data());
    std::byte* const part = regions[owner]->data() + kPart * static_cast<std::size_t>(peers.rank());
    check_cuda(cudaMemcpy(part, part_of(peers.rank(), owner).data(), kPart, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  meet(peers, 51);
  std::vector<std::uint8_t> contents(kNumBytes);
  check_cuda(cudaMemcpy(contents.data(), regions[peers.rank()]->data(), kNumBytes, cudaMemcpyDeviceToHost), "cudaMemcpy");
  for (const int writer : peers.members()) {
    const auto begin = contents.begin() + static_cast<std::ptrdiff_t>(kPart) * writer;
    EXPECT_EQ(std::vector(begin, begin + kPart), part_of(writer, peers.rank())) << "written by rank " << writer;
  }
  EXPECT_EQ(contents.back(), 0);
  meet(peers, 52);
}

// A kernel of the last rank tells all others of a failure, each of whom learns of it on the host and by a copy of its own.
inline void exercise_failure_words(Peers& peers) {
  check_cuda(cudaSetDevice(peers.device_place().device), "cudaSetDevice");
  const std::vector<std::uint64_t*>& words = peers.device_failure_words();
  ASSERT_EQ(words.size(), static_cast<std::size_t>(peers.num_ranks()));
  const Meeting begin(peers, 60);
  const Meeting end(peers, 61);
  // Who has come waits for nothing by which it would hear of the failure.
  begin.come();
  const int teller = peers.num_ranks() - 1;
  const Failure told{ErrorCode::kTimeout, Phase::kDispatchRows, 0, teller};
  if (peers.rank() == teller) {
    ASSERT_TRUE(begin.have_all_come());
    for (const int peer : peers.members()) {
      if (peer != teller) store_word_by_kernel(words[peer], pack(told));
    }
  } else {
    for (const Deadline deadline(peers.timeout()); !peers.failure().has_value();) ASSERT_FALSE(deadline.passed());
    EXPECT_EQ(pack(*peers.failure()), pack(told));
    std::uint64_t copied = 0;
    check_cuda(cudaMemcpy(&copied, words[peers.rank()], sizeof(copied), cudaMemcpyDefault), "cudaMemcpy");
    EXPECT_EQ(copied, pack(told));
  }
  // Nobody goes before all have looked: a missed deadline of a rank that has gone is reported as its loss.
  end.come();
  ASSERT_TRUE(end.have_all_come());
}

}  // namespace tokenyard::test
