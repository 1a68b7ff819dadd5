// Ranks that are threads of one process meet in a room: a place per rank, behind one mutex.
#include <fmt/core.h>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <new>
#include <optional>
#include <utility>

#include "exchange/limits.hpp"
#include "exchange/rank_list.hpp"
#include "exchange/verdict.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard {
namespace {

using Messages = std::vector<std::vector<std::byte>>;

class Room {
 public:
  explicit Room(int num_ranks) : arrived_(num_ranks, false), messages_(num_ranks) {}

  int num_ranks() const noexcept { return static_cast<int>(arrived_.size()); }

  Messages all_gather(int rank, std::span<const std::byte> bytes, std::chrono::milliseconds timeout) {
    check_message(bytes);
    const Deadline deadline = bounded_deadline(timeout);
    std::unique_lock lock(mutex_);
    throw_if_over(verdict_);
    const std::uint64_t round = round_;
    messages_[rank].assign(bytes.begin(), bytes.end());
    arrived_[rank] = true;
    if (++num_arrived_ == num_ranks()) {
      finish_round();
    } else {
      wait_for_others(lock, round, rank, deadline);
    }
    // The next round cannot finish, and replace this result, before this rank has taken part in it.
    const std::shared_ptr<const Messages> result = result_;
    lock.unlock();
    return *result;
  }

  // The rank's Exchange is gone: no round can finish from now on. Without memory for the whole text, one is told that needs
  // none.
  void leave(int rank) noexcept {
    const std::lock_guard lock(mutex_);
    Verdict verdict{{ErrorCode::kPeerLost, Phase::kRendezvous, rank, rank}, "a rank has left"};
    try {
      verdict.text = fmt::format("Exchange, round {}: rank {} has left: its Exchange was destroyed", round_, rank);
    } catch (const std::bad_alloc&) {
    }
    end(std::move(verdict));
  }

 private:
  void finish_round() {
    result_ = std::make_shared<const Messages>(std::exchange(messages_, Messages(arrived_.size())));
    arrived_.assign(arrived_.size(), false);
    num_arrived_ = 0;
    ++round_;
    changed_.notify_all();
  }

  void wait_for_others(std::unique_lock<std::mutex>& lock, std::uint64_t round, int rank, const Deadline& deadline) {
    const auto until = Deadline::Clock::now() + deadline.remaining();
    changed_.wait_until(lock, until, [&] { return round_ != round || verdict_; });
    if (round_ != round) return;  // finished, whatever happened since
    if (!verdict_) {
      const std::vector<int> missing = missing_ranks();
      end(make_verdict(ErrorCode::kTimeout, missing.front(), rank,
                       fmt::format("Exchange, round {}: rank {} waited {} ms for {} of {}, not arrived yet", round, rank,
                                   deadline.timeout().count(), list_ranks(missing), num_ranks())));
    }
    throw_verdict(*verdict_);
  }

  void end(Verdict verdict) {
    if (verdict_) return;
    verdict_ = std::move(verdict);
    changed_.notify_all();
  }

  std::vector<int> missing_ranks() const {
    std::vector<int> missing;
    for (int rank = 0; rank < num_ranks(); ++rank) {
      if (!arrived_[rank]) missing.push_back(rank);
    }
    return missing;
  }

  std::mutex mutex_;
  std::condition_variable changed_;  // a round finished, or the verdict fell
  std::uint64_t round_ = 1;
  std::vector<bool> arrived_;  // in this round
  int num_arrived_ = 0;
  Messages messages_;                       // of this round
  std::shared_ptr<const Messages> result_;  // of the round before
  std::optional<Verdict> verdict_;
};

class ThreadExchange final : public Exchange {
 public:
  ThreadExchange(std::shared_ptr<Room> room, int rank) : room_(std::move(room)), rank_(rank) {}
  ~ThreadExchange() override { room_->leave(rank_); }

  int rank() const noexcept override { return rank_; }
  int num_ranks() const noexcept override { return room_->num_ranks(); }

  Messages all_gather(std::span<const std::byte> bytes, std::chrono::milliseconds timeout) override {
    return room_->all_gather(rank_, bytes, timeout);
  }

 private:
  std::shared_ptr<Room> room_;
  int rank_;
};

}  // namespace

std::vector<std::shared_ptr<Exchange>> make_thread_exchange(int num_ranks) {
  check_num_ranks(num_ranks);
  const auto room = std::make_shared<Room>(num_ranks);
  std::vector<std::shared_ptr<Exchange>> exchanges;
  for (int rank = 0; rank < num_ranks; ++rank) exchanges.push_back(std::make_shared<ThreadExchange>(room, rank));
  return exchanges;
}

}  // namespace tokenyard
