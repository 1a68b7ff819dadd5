// Honest ranks meet in time, whatever strangers send to rank 0 meanwhile.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdio>

#include "tests/exchange/kinds.hpp"
#include "tests/fuzz/fuzz_settings.hpp"
#include "tests/fuzz/hostile_messages.hpp"
#include "tests/support/exchange_by_hand.hpp"
#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 4;
constexpr int kNumAttackers = 2;
constexpr std::uint64_t kMessagesPerMeeting = 2'000;

// Connections that stay open and say one byte of a hello now and then.
class Dribbles {
 public:
  Dribbles(RandomBits& random, std::uint16_t port) : random_(random), port_(port) {}

  void drip() {
    if (streams_.size() < 40) streams_.push_back({connect_stranger(port_), hostile_hello(random_, kNumRanks), 0});
    Stream& stream = streams_[random_.next() % streams_.size()];
    const bool is_heard = stream.num_sent < stream.bytes.size() &&
                          send(stream.socket.get(), &stream.bytes[stream.num_sent++], 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1;
    if (is_heard) return;
    std::swap(stream, streams_.back());
    streams_.pop_back();
  }

 private:
  struct Stream {
    FileDescriptor socket;
    Bytes bytes;
    std::size_t num_sent;
  };

  RandomBits& random_;
  std::uint16_t port_;
  std::vector<Stream> streams_;
};

class RendezvousFuzz : public Fuzz {
 protected:
  // Sends until the ranks have met. A rendezvous that a crowd is knocking at may turn somebody away.
  void attack(std::uint64_t seed, std::uint16_t port) {
    RandomBits random(seed);
    Dribbles dribbles(random, port);
    const Deadline deadline(2 * kAmple);
    while (!has_met_ && !deadline.passed()) {
      Tally tally;
      try {
        if (!converse(random, port, kNumRanks, recording_, tally)) std::this_thread::sleep_for(1ms);
        dribbles.drip();
        ++tally.num_messages;
      } catch (const std::exception&) {
        std::this_thread::sleep_for(1ms);
      }
      num_sent_ += tally.num_messages;
      num_connections_ += tally.num_connections;
    }
  }

  void meet(int rank, const TestListener& listener, std::uint64_t num_before) {
    // The last rank comes in the thick of it.
    const Deadline patience(kAmple / 2);
    while (rank == kNumRanks - 1 && num_sent_ < num_before + kMessagesPerMeeting && !patience.passed()) {
      std::this_thread::sleep_for(1ms);
    }
    TcpRendezvous rendezvous = rendezvous_at(listener, rank, kNumRanks);
    rendezvous.secret = kTestSecret;
    const Deadline since(kAmple);
    const auto exchange = make_tcp_exchange(rendezvous);
    if (rank == kNumRanks - 1) longest_ = std::max(longest_, since.elapsed());
    has_met_ = true;
    for (int round = 0; round < 3; ++round) {
      const auto messages = exchange->all_gather(to_bytes(std::to_string(rank * 10 + round)), kAmple);
      for (int source = 0; source < kNumRanks; ++source) {
        ASSERT_EQ(messages[source], to_bytes(std::to_string(source * 10 + round)));
      }
    }
  }

  Recording recording_ = record_honest_rank(kNumRanks, kTestSecret);
  std::atomic<bool> has_met_{false};
  std::atomic<std::uint64_t> num_sent_{0};
  std::atomic<std::uint64_t> num_connections_{0};
  std::chrono::milliseconds longest_{0};  // that the last rank took to join
};

TEST_F(RendezvousFuzz, honest_ranks_meet_among_strangers) {
  ASSERT_FALSE(recording_.hello.empty() || recording_.answer.empty() || recording_.later.empty());
  const Deadline since(1h);
  int num_meetings = 0;
  std::int64_t resident_kib = 0;
  while (num_sent_ < num_fuzz_messages()) {
    const TestListener listener = listen_on_loopback();
    const std::uint64_t num_before = num_sent_;
    has_met_ = false;
    run_ranks(kNumRanks + kNumAttackers, [&](int i) {
      if (i < kNumRanks) {
        meet(i, listener, num_before);
      } else {
        attack(seed_of(fuzz_seed(), num_meetings, i), listener.port);
      }
    });
    ASSERT_EQ(holdings().num_descriptors, before_.num_descriptors) << "after meeting " << num_meetings;
    if (++num_meetings == 5) resident_kib = holdings().resident_kib;
  }
  std::printf(
      "seed %llu: %llu messages on %llu connections in %lld ms, %d meetings; the last rank took at most %lld ms to join; %+lld "
      "KiB of memory since the fifth meeting\n",
      static_cast<unsigned long long>(fuzz_seed()), static_cast<unsigned long long>(num_sent_),
      static_cast<unsigned long long>(num_connections_), static_cast<long long>(since.elapsed().count()), num_meetings,
      static_cast<long long>(longest_.count()), static_cast<long long>(holdings().resident_kib - resident_kib));
}

// On loopback without a secret everybody is believed, so strangers may end a rendezvous; they cannot make it hang.
TEST_F(RendezvousFuzz, without_a_secret_rank_zero_ends_in_time) {
  RandomBits random(seed_of(fuzz_seed(), 1));
  Tally tally;
  for (std::uint64_t i = 0; i < 20 + num_fuzz_messages() / 2'000; ++i) {
    const TestListener listener = listen_on_loopback();
    const Deadline since(kAmple);
    std::thread rank_zero(
        [&] { EXPECT_TRUE(error_of([&] { make_tcp_exchange(rendezvous_at(listener, 0, kNumRanks, 50ms)); })); });
    while (converse(random, listener.port, kNumRanks, recording_, tally)) {
    }
    rank_zero.join();
    EXPECT_LT(since.elapsed(), 10s);
  }
}

}  // namespace
}  // namespace tokenyard::test
