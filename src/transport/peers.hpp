// The ranks of a group as one of them sees them: whose memory it maps, who is alive, what has failed, and how to wait.
//
// Every wait of the library on another rank's memory goes through Peers::wait, so every wait has a deadline, notices a dead
// peer and a failure reported by others, and says who waited for whom.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/backoff.hpp"
#include "base/deadline.hpp"
#include "base/trace.hpp"
#include "tokenyard/error.hpp"
#include "transport/control_page.hpp"
#include "transport/handle_channel.hpp"

namespace tokenyard {

class Peers {
 public:
  // Collective within the domain: maps the members' control pages. `track`: where this rank's waits are recorded. Where
  // `device_place` is on a device, the pages, which lie in host memory, are also mapped for its users.
  Peers(int num_ranks, std::unique_ptr<HandleChannel> channel, WaitStyle style, std::chrono::milliseconds timeout,
        TraceTrack track = {}, MemoryPlace device_place = {});
  ~Peers();
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;

  int rank() const noexcept { return channel_->rank(); }
  int num_ranks() const noexcept { return num_ranks_; }
  const std::vector<int>& members() const noexcept { return channel_->members(); }
  bool is_member(int rank) const noexcept { return rank >= 0 && rank < num_ranks_ && pages_[rank] != nullptr; }
  std::chrono::milliseconds timeout() const noexcept { return timeout_; }
  WaitStyle wait_style() const noexcept { return style_; }
  const TraceTrack& trace_track() const noexcept { return track_; }
  // Where the windows of this rank lie: its GPU, or host memory.
  const MemoryPlace& device_place() const noexcept { return device_place_; }

  // Collective within the domain: every member contributes an equally large zeroed region; returns them by rank (nullptr for
  // ranks of other domains). Equal tags belong together. On all members host memory or memory of a device.
  std::vector<std::shared_ptr<MemoryRegion>> share(std::uint64_t tag, std::size_t num_bytes, const Deadline& deadline,
                                                   const MemoryPlace& place = {});

  // Blocks until ready() is true. Throws the group's failure, and makes one if the peer is gone or the deadline passes.
  template <class Ready, class Describe>
  void wait(int peer, Phase phase, const Deadline& deadline, Ready&& ready, Describe&& describe) {
    if (ready()) return;
    const WaitTrace trace(track_, to_string(phase), peer);
    Backoff backoff(style_);
    std::optional<Announcement> announcement;
    while (!ready()) {
      if (!backoff.pause()) continue;
      if (!announcement) announcement.emplace(*this, phase, peer);
      check_wait(peer, phase, deadline, ready, describe);
    }
  }

  // The same for waits that may end otherwise: that the peer is gone or late is then no failure of the group. Returns -1 when
  // ready() is true, otherwise the rank that keeps this one waiting: the peer, or the one that the peer itself waits for.
  template <class Ready>
  int try_wait(int peer, Phase phase, const Deadline& deadline, Ready&& ready) {
    if (ready()) return -1;
    const WaitTrace trace(track_, to_string(phase), peer);
    Backoff backoff(style_);
    std::optional<Announcement> announcement;
    while (!ready()) {
      if (!backoff.pause()) continue;
      if (!announcement) announcement.emplace(*this, phase, peer);
      const WaitEnd end = look(peer, deadline, ready);
      if (end == WaitEnd::kReady) continue;
      if (end == WaitEnd::kGone) return peer;
      const int culprit = diagnose(peer, ready).culprit;
      return ready() ? -1 : culprit;
    }
    return -1;
  }

  // Tells `peer` alone, should it live, that this rank goes on without it: its next call will fail.
  void expel(int peer, Phase phase);

  // Makes `failure` the group's and tells the members, unless it has one already: then returns false.
  bool spread(const Failure& failure) noexcept;
  // The same; then throws what the group's failure now is.
  [[noreturn]] void raise(const Failure& failure, const std::string& text);

  // Throws if the group has failed.
  void check() const;
  // For waits that do not know whom they wait for: makes a failure of the death of any member. Takes a system call for each.
  void check_members(Phase phase);
  // Kernels do not see who is gone: a deadline that one of them missed because of a rank that is gone when the failure is first
  // asked for here, is that rank's loss.
  std::optional<Failure> failure() const noexcept;
  // By rank; null for ranks of other domains. Whoever uses the words below after this object is gone keeps them.
  const std::vector<std::shared_ptr<MemoryRegion>>& pages() const noexcept { return pages_; }
  // By rank, where kernels find its ControlPage::failure; null for ranks of other domains. Empty unless device_place() is on a
  // device.
  const std::vector<std::uint64_t*>& device_failure_words() const noexcept { return device_failure_words_; }

  // For recovery, between two barriers of all ranks: forgets the failure. Words of an older generation are never mistaken for
  // data of a newer one.
  void forget_failure();
  std::uint16_t generation() const noexcept { return generation_.load(std::memory_order_acquire); }

 private:
  // Lets the other ranks see, as long as it lives, whom this rank waits for.
  class Announcement {
   public:
    Announcement(const Peers& peers, Phase phase, int peer);
    ~Announcement();
    Announcement(const Announcement&) = delete;
    Announcement& operator=(const Announcement&) = delete;

   private:
    const Peers& peers_;
    std::uint64_t waiting_;
  };

  // One look at what can end a wait early; kReady: go on waiting.
  enum class WaitEnd : std::uint8_t { kReady, kGone, kLate };
  WaitEnd look(int peer, const Deadline& deadline, const std::function<bool()>& ready);
  void check_wait(int peer, Phase phase, const Deadline& deadline, const std::function<bool()>& ready,
                  const std::function<std::string()>& describe);
  [[noreturn]] void throw_failure(const Failure& failure) const;
  std::atomic_ref<std::uint64_t> word(int rank, std::uint64_t ControlPage::* member) const;

  // Why `peer` keeps this rank waiting.
  struct Diagnosis {
    ErrorCode code;
    int culprit;
    std::string text;
  };
  // Follows who waits for whom from `peer`. The last in the chain keeps the others waiting; where the chain bites its own tail,
  // the ranks have made different calls. May take a while; throws if the group fails meanwhile, and gives up once ready().
  Diagnosis diagnose(int peer, const std::function<bool()>& ready) const;
  // Whether a peer that announces `waiting` goes on waiting, has moved on, or does neither; or ready() has become true.
  enum class Watched { kWaits, kMoved, kStopped, kNotNeeded };
  Watched watch(int peer, std::uint64_t waiting, const std::function<bool()>& ready) const;
  void beat() const;
  bool has_left(int peer) const;

  int num_ranks_;
  std::unique_ptr<HandleChannel> channel_;
  WaitStyle style_;
  std::chrono::milliseconds timeout_;
  TraceTrack track_;
  MemoryPlace device_place_;
  std::vector<std::shared_ptr<MemoryRegion>> pages_;  // by rank
  std::vector<std::uint64_t*> device_failure_words_;
  mutable std::atomic<std::uint64_t> judged_failure_{0};  // what failure() has made of the page's word
  std::atomic<std::uint16_t> generation_{1};
  mutable std::atomic<int> num_announcements_{0};
};

}  // namespace tokenyard
