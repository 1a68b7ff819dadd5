// A rank that meets an impostor at rank 0's place says so in time.
#include <gtest/gtest.h>
#include <poll.h>

#include "tests/exchange/kinds.hpp"
#include "tests/fuzz/fuzz_settings.hpp"
#include "tests/fuzz/hostile_messages.hpp"
#include "tests/support/exchange_by_hand.hpp"
#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr std::chrono::milliseconds kTimeout = 60ms;

Bytes hostile_answer(RandomBits& random, const Recording& recording) {
  switch (random.from(0, 6)) {
    case 0: return random_bytes(random, static_cast<std::size_t>(random.any_magnitude(1, 4096)));
    case 1:
      return make_frame(FrameType::kChallenge, 0, random_bytes(random, random.pick<std::size_t>({32, 32, 32, 0, 31, 64})))
          ->bytes();
    case 2: return make_frame(FrameType::kAccepted, 0, random_bytes(random, random.pick<std::size_t>({0, 32})))->bytes();
    case 3: return recording.proof_of_rank_zero;
    case 4: return mutated(random, recording.proof_of_rank_zero);
    case 5:
      return make_frame(FrameType::kFailed, 0, random_bytes(random, static_cast<std::size_t>(random.from(0, 300))))->bytes();
    default: return random_frame(random);
  }
}

class ImpostorFuzz : public Fuzz {
 protected:
  // Answers whoever comes, until the listener is shut down.
  void pretend(std::uint64_t seed, const TestListener& listener) const {
    RandomBits random(seed);
    while (true) {
      const FileDescriptor visitor(accept(listener.fd, nullptr, nullptr));
      if (!visitor) return;
      for (auto i = random.from(0, 4); i > 0; --i) {
        pollfd entry{visitor.get(), POLLIN, 0};
        if (random.one_in(2)) poll(&entry, 1, 20);
        const Bytes answer = hostile_answer(random, recording_);
        if (!answer.empty()) send(visitor.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
      }
      pollfd entry{visitor.get(), POLLIN, 0};
      if (random.one_in(4)) poll(&entry, 1, 20);
    }
  }

  void expect_errors(const std::string& secret) const {
    for (std::uint64_t i = 0; i < 40 + num_fuzz_messages() / 1'000; ++i) {
      const TestListener listener = listen_on_loopback();
      std::thread impostor([&] { pretend(seed_of(fuzz_seed(), 2, i), listener); });
      TcpRendezvous rendezvous = rendezvous_at(listener, 1, 2, kTimeout);
      rendezvous.secret = secret;
      const Deadline since(kAmple);
      // Without a secret an impostor can play rank 0 well enough to be taken for it; the first round ends that.
      const auto error = error_of([&] { make_tcp_exchange(rendezvous)->barrier(kTimeout); });
      EXPECT_TRUE(error) << "conversation " << i;
      EXPECT_LT(since.elapsed(), 10s) << "conversation " << i;
      shutdown(listener.fd, SHUT_RDWR);
      impostor.join();
      close(listener.fd);
    }
  }

  Recording recording_ = record_honest_rank(2, kTestSecret);
};

TEST_F(ImpostorFuzz, is_not_believed_by_a_rank_with_a_secret) { expect_errors(kTestSecret); }

TEST_F(ImpostorFuzz, does_not_hang_a_rank_without_one) { expect_errors({}); }

}  // namespace
}  // namespace tokenyard::test
