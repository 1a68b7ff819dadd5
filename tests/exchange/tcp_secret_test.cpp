// Ranks that share a secret, and others that would like to be among them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "exchange/handshake.hpp"
#include "tests/exchange/kinds.hpp"
#include "tests/exchange/tcp_proxy.hpp"
#include "tests/support/exchange_by_hand.hpp"
#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr const char* kOtherSecret = "another secret, of another job";

TcpRendezvous secret_rendezvous_at(const TestListener& listener, int rank, int num_ranks,
                                   std::chrono::milliseconds timeout = kAmple, const std::string& secret = kTestSecret) {
  TcpRendezvous rendezvous = rendezvous_at(listener, rank, num_ranks, timeout);
  rendezvous.secret = secret;
  return rendezvous;
}

// Three ranks meet although `disturb`, which runs when rank 0 listens and rank 1 has come, does what it can.
template <class Disturb>
void expect_meeting_despite(Disturb disturb) {
  const TestListener listener = listen_on_loopback();
  run_ranks(3, [&](int rank) {
    if (rank == 2) disturb(listener);
    const auto exchange = make_tcp_exchange(secret_rendezvous_at(listener, rank, 3));
    const auto messages = exchange->all_gather(to_bytes(std::to_string(rank)), kAmple);
    for (int source = 0; source < 3; ++source) ASSERT_EQ(messages[source], to_bytes(std::to_string(source)));
  });
}

std::vector<std::byte> hello_with_nonce(std::uint32_t num_ranks, std::uint32_t rank, const Nonce& nonce,
                                        std::uint32_t version = kWireVersion) {
  const Bytes body = encode_hello({.num_ranks = num_ranks, .rank = rank, .nonce = nonce});
  Bytes bytes = encode_header({.version = version, .type = FrameType::kHello, .num_body_bytes = body.size()});
  bytes.insert(bytes.end(), body.begin(), body.end());
  return bytes;
}

std::vector<std::byte> receive_frame(const FileDescriptor& socket, std::size_t num_body_bytes) {
  std::vector<std::byte> frame(kFrameHeaderBytes + num_body_bytes);
  if (recv(socket.get(), frame.data(), frame.size(), MSG_WAITALL) != static_cast<ssize_t>(frame.size())) {
    throw std::runtime_error("no frame came");
  }
  return frame;
}

Nonce challenge_in(const std::vector<std::byte>& frame) {
  if (type_of(frame) != FrameType::kChallenge) throw std::runtime_error("no challenge came");
  return *decode_32_bytes(std::span(frame).subspan(kFrameHeaderBytes));
}

TEST(tcp_secret, a_wrong_one_is_turned_away_and_holds_up_nobody) {
  expect_meeting_despite([](const TestListener& listener) {
    const auto error = error_of([&] { make_tcp_exchange(secret_rendezvous_at(listener, 2, 3, kAmple, kOtherSecret)); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
    EXPECT_THAT(error->what(), AllOf(HasSubstr("turned rank 2 away"), HasSubstr("does not know rank 0's secret"),
                                     HasSubstr("TOKENYARD_SECRET"), Not(HasSubstr(kOtherSecret))));
  });
}

TEST(tcp_secret, a_rank_without_one_is_turned_away_and_holds_up_nobody) {
  expect_meeting_despite([](const TestListener& listener) {
    const auto error = error_of([&] { make_tcp_exchange(rendezvous_at(listener, 2, 3)); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
    EXPECT_THAT(error->what(), AllOf(HasSubstr("rank 2 (127.0.0.1:"), HasSubstr("has no secret and rank 0 has one"),
                                     HasSubstr("TOKENYARD_SECRET")));
  });
}

TEST(tcp_secret, a_rank_zero_without_one_is_not_believed) {
  const TestListener listener = listen_on_loopback();
  const auto errors = errors_of_ranks(
      2, [&](int rank) { make_tcp_exchange(secret_rendezvous_at(listener, rank, 2, kAmple, rank == 0 ? "" : kTestSecret)); });
  for (const auto& error : errors) {
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
    EXPECT_THAT(error->what(), AllOf(HasSubstr("rank 1 (127.0.0.1:"), HasSubstr("has a secret and rank 0 has none")));
  }
}

TEST(tcp_secret, who_was_turned_away_is_in_the_report_of_who_is_missing) {
  const TestListener listener = listen_on_loopback();
  const auto errors = errors_of_ranks(2, [&](int rank) {
    make_tcp_exchange(secret_rendezvous_at(listener, rank, 2, 500ms, rank == 0 ? kTestSecret : kOtherSecret));
  });
  ASSERT_TRUE(errors[0]);
  EXPECT_EQ(errors[0]->code(), ErrorCode::kTimeout);
  EXPECT_EQ(errors[0]->failure().culprit, 1);
  EXPECT_THAT(errors[0]->what(),
              AllOf(HasSubstr("rank 1 of 2, not arrived yet"), HasSubstr("Turned away at the door: 1; the last: "),
                    HasSubstr("which says that it is rank 1, does not know rank 0's secret")));
}

TEST(tcp_secret, without_it_nobody_can_end_the_rendezvous) {
  expect_meeting_despite([](const TestListener& listener) {
    const Nonce nonce = random_nonce();
    for (const auto& hello : {hello_of(kWireVersion, 3, 1), hello_of(kWireVersion, 9, 2), hello_of(kWireVersion + 1, 3, 2),
                              hello_with_nonce(3, 2, nonce, kWireVersion + 1)}) {
      const FileDescriptor stranger = connect_stranger(listener.port);
      send_bytes(stranger, hello);
      EXPECT_TRUE(verdict_in(receive_all(stranger))) << "it is told what is wrong";
    }
    for (const std::uint32_t rank : {0u, 1u, 7u, 0xffffffffu}) {
      for (const std::uint32_t num_ranks : {3u, 8u}) {
        const FileDescriptor stranger = connect_stranger(listener.port);
        send_bytes(stranger, hello_with_nonce(num_ranks, rank, nonce));
        challenge_in(receive_frame(stranger, sizeof(Nonce)));
        send_bytes(stranger, make_frame(FrameType::kAnswer, 0, random_nonce())->bytes());
        EXPECT_TRUE(verdict_in(receive_all(stranger)));
      }
    }
  });
}

TEST(tcp_secret, with_it_a_duplicate_ends_the_rendezvous_for_all) {
  const TestListener listener = listen_on_loopback();
  std::atomic<int> num_joined{0};
  const auto errors = errors_of_ranks(4, [&](int i) {
    const int rank = i == 3 ? 1 : i;
    if (i == 2) return;
    if (i == 3) std::this_thread::sleep_for(100ms);
    make_tcp_exchange(secret_rendezvous_at(listener, rank, 3));
    ++num_joined;
  });
  EXPECT_EQ(num_joined, 0);
  for (const int i : {0, 1, 3}) {
    ASSERT_TRUE(errors[i]);
    EXPECT_EQ(errors[i]->code(), ErrorCode::kDisagreement);
    EXPECT_EQ(errors[i]->failure().culprit, 1);
    EXPECT_STREQ(errors[i]->what(), errors[0]->what()) << "proved, so believed as it stands";
  }
}

TEST(tcp_secret, a_recorded_proof_is_worth_nothing) {
  // What an honest rank 2 of another run said, word for word.
  std::vector<std::byte> hello;
  std::vector<std::byte> answer;
  {
    const TestListener listener = listen_on_loopback();
    TcpProxy proxy(listener.port, [&](bool is_to_rank_zero, std::vector<std::byte> frame) {
      if (is_to_rank_zero && type_of(frame) == FrameType::kHello) hello = frame;
      if (is_to_rank_zero && type_of(frame) == FrameType::kAnswer) answer = frame;
      return frame;
    });
    run_ranks(3, [&](int rank) {
      TcpRendezvous rendezvous = secret_rendezvous_at(listener, rank, 3);
      if (rank == 2) rendezvous.port = proxy.port();
      make_tcp_exchange(rendezvous)->barrier(kAmple);
    });
  }
  ASSERT_FALSE(hello.empty() || answer.empty());
  expect_meeting_despite([&](const TestListener& listener) {
    const FileDescriptor patient = connect_stranger(listener.port);
    send_bytes(patient, hello);
    challenge_in(receive_frame(patient, sizeof(Nonce)));
    send_bytes(patient, answer);
    const auto verdict = verdict_in(receive_all(patient));
    ASSERT_TRUE(verdict);
    EXPECT_THAT(verdict->text, HasSubstr("does not know"));
    const FileDescriptor hasty = connect_stranger(listener.port);
    std::vector<std::byte> both = hello;
    both.insert(both.end(), answer.begin(), answer.end());
    send_bytes(hasty, both);
    receive_all(hasty);
  });
}

TEST(tcp_secret, a_reflected_challenge_is_worth_nothing) {
  expect_meeting_despite([](const TestListener& listener) {
    // Each connection is asked what rank 0 asks on the other; rank 0 proves nothing before the other side has.
    const FileDescriptor first = connect_stranger(listener.port);
    const FileDescriptor second = connect_stranger(listener.port);
    send_bytes(first, hello_with_nonce(3, 2, random_nonce()));
    const Nonce asked = challenge_in(receive_frame(first, sizeof(Nonce)));
    send_bytes(second, hello_with_nonce(3, 2, asked));
    const Nonce echoed = challenge_in(receive_frame(second, sizeof(Nonce)));
    EXPECT_NE(asked, echoed);
    send_bytes(first, make_frame(FrameType::kAnswer, 0, echoed)->bytes());
    send_bytes(second, make_frame(FrameType::kAnswer, 0, asked)->bytes());
    EXPECT_TRUE(verdict_in(receive_all(first)));
    EXPECT_TRUE(verdict_in(receive_all(second)));
  });
}

// What rank 1 says when `behave` stands at rank 0's place; it gets rank 1's hello.
template <class Behave>
std::optional<Error> error_at_impostor(Behave behave) {
  const TestListener listener = listen_on_loopback();
  std::thread impostor([&] {
    const FileDescriptor visitor(accept(listener.fd, nullptr, nullptr));
    const auto hello = receive_frame(visitor, 8 + sizeof(Nonce));
    behave(visitor, *decode_hello(std::span(hello).subspan(kFrameHeaderBytes)));
    receive_all(visitor);
  });
  const auto error = error_of([&] { make_tcp_exchange(secret_rendezvous_at(listener, 1, 2, 5s)); });
  impostor.join();
  close(listener.fd);
  return error;
}

TEST(tcp_secret, an_impostor_at_rank_zeros_place_is_not_believed) {
  const auto accepts_at_once = [](const FileDescriptor& visitor, const Hello&) {
    send_bytes(visitor, make_frame(FrameType::kAccepted, 0)->bytes());
  };
  const auto proves_nothing = [](const FileDescriptor& visitor, const Hello&) {
    send_bytes(visitor, make_frame(FrameType::kChallenge, 0, random_nonce())->bytes());
    receive_frame(visitor, sizeof(Mac));
    send_bytes(visitor, make_frame(FrameType::kAccepted, 0, random_nonce())->bytes());
  };
  const auto reflects = [](const FileDescriptor& visitor, const Hello& hello) {
    send_bytes(visitor, make_frame(FrameType::kChallenge, 0, *hello.nonce)->bytes());
    const auto answer = receive_frame(visitor, sizeof(Mac));
    send_bytes(visitor, make_frame(FrameType::kAccepted, 0, std::span(answer).subspan(kFrameHeaderBytes))->bytes());
  };
  const auto knows_another = [](const FileDescriptor& visitor, const Hello& hello) {
    const Nonce challenge = random_nonce();
    send_bytes(visitor, make_frame(FrameType::kChallenge, 0, challenge)->bytes());
    receive_frame(visitor, sizeof(Mac));
    const Handshake handshake(key_of_secret(kOtherSecret), hello, challenge);
    send_bytes(visitor, make_frame(FrameType::kAccepted, 0, handshake.proof_of_rank_zero())->bytes());
  };
  for (const auto& error : {error_at_impostor(accepts_at_once), error_at_impostor(proves_nothing), error_at_impostor(reflects),
                            error_at_impostor(knows_another)}) {
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
    EXPECT_THAT(error->what(), AllOf(HasSubstr("is not rank 0 of this job"), HasSubstr("without a proof")));
  }
}

TEST(tcp_secret, what_an_impostor_says_is_marked_as_hearsay) {
  const auto error = error_at_impostor([](const FileDescriptor& visitor, const Hello&) {
    const auto verdict = make_verdict(ErrorCode::kPeerLost, 0, 0, "run rm -rf\x1b[2J\n" + std::string(10000, 'x'));
    send_bytes(visitor, make_frame(FrameType::kFailed, 0, encode_verdict(verdict))->bytes());
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
  EXPECT_THAT(error->what(),
              AllOf(HasSubstr("has not proved that it knows the secret, and says: run rm"), Not(HasSubstr("\x1b"))));
  EXPECT_LT(std::string(error->what()).size(), 1000u);
}

TEST(tcp_secret, an_impostor_that_challenges_twice_is_refused) {
  const auto error = error_at_impostor([](const FileDescriptor& visitor, const Hello&) {
    send_bytes(visitor, make_frame(FrameType::kChallenge, 0, random_nonce())->bytes());
    send_bytes(visitor, make_frame(FrameType::kChallenge, 0, random_nonce())->bytes());
  });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->what(), HasSubstr("answered with a message of type 7"));
}

// Rank 1 of 2 speaks through a proxy that does `tamper` to the frame of this type in round 3.
std::vector<std::optional<Error>> errors_with(FrameType type, std::function<Bytes(Bytes)> tamper) {
  const TestListener listener = listen_on_loopback();
  TcpProxy proxy(listener.port, [&](bool, Bytes frame) {
    const auto header = decode_header(std::span(frame).first<kFrameHeaderBytes>());
    return header->type == type && header->round == 3 ? tamper(std::move(frame)) : frame;
  });
  return errors_of_ranks(2, [&](int rank) {
    TcpRendezvous rendezvous = secret_rendezvous_at(listener, rank, 2);
    if (rank == 1) rendezvous.port = proxy.port();
    const auto exchange = make_tcp_exchange(rendezvous);
    for (int round = 1; round <= 6; ++round) exchange->all_gather(to_bytes("my bytes"), 2s);
  });
}

TEST(tcp_secret, whoever_stands_between_can_cut_but_not_change) {
  const auto flip = [](std::size_t position) {
    return [position](Bytes frame) {
      frame[position] ^= std::byte{1};
      return frame;
    };
  };
  const auto repeat = [](const Bytes& frame) {
    Bytes twice = frame;
    twice.insert(twice.end(), frame.begin(), frame.end());
    return twice;
  };
  const auto insert = [](const Bytes& frame) {
    Bytes more = make_frame(FrameType::kFailed, 3, encode_verdict(make_verdict(ErrorCode::kTimeout, 1, 0, "give up")))->bytes();
    more.resize(more.size() + sizeof(Mac));
    more.insert(more.end(), frame.begin(), frame.end());
    return more;
  };
  struct Case {
    FrameType type;
    std::function<Bytes(Bytes)> tamper;
  };
  for (const Case& each : {Case{FrameType::kContribution, flip(16)}, Case{FrameType::kContribution, flip(kFrameHeaderBytes)},
                           Case{FrameType::kContribution, flip(kFrameHeaderBytes + 8)}, Case{FrameType::kContribution, repeat},
                           Case{FrameType::kContribution, insert}, Case{FrameType::kResult, flip(kFrameHeaderBytes + 20)},
                           Case{FrameType::kResult, repeat}, Case{FrameType::kResult, insert}}) {
    const auto errors = errors_with(each.type, each.tamper);
    // Whoever receives it finds out, and the other hears of it or finds the connection closed.
    const auto& victim = errors[each.type == FrameType::kContribution ? 0 : 1];
    ASSERT_TRUE(victim);
    EXPECT_EQ(victim->code(), ErrorCode::kDisagreement);
    EXPECT_THAT(victim->what(), HasSubstr("whose seal does not match"));
    EXPECT_TRUE(errors[0] && errors[1]);
  }
}

TEST(tcp_secret, without_one_only_loopback_is_served_and_contacted) {
  for (const char* address : {"0.0.0.0", "::", "10.1.2.3", "fd00::1", "some-host"}) {
    for (const int rank : {0, 1}) {
      TcpRendezvous rendezvous;
      rendezvous.address = address;
      rendezvous.rank = rank;
      rendezvous.num_ranks = 2;
      const auto error = error_of([&] { make_tcp_exchange(rendezvous); });
      ASSERT_TRUE(error) << address;
      EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
      EXPECT_THAT(error->what(), AllOf(HasSubstr(address), HasSubstr("no loopback address"),
                                       HasSubstr("export TOKENYARD_SECRET=$(head -c 32 /dev/urandom | base64)")));
    }
  }
}

TEST(tcp_secret, without_one_a_listener_beyond_loopback_is_refused_and_left_alone) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_EQ(listen(fd, 8), 0);
  TcpRendezvous rendezvous;
  rendezvous.num_ranks = 2;
  rendezvous.listen_fd = fd;
  const auto error = error_of([&] { make_tcp_exchange(rendezvous); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("0.0.0.0:"), HasSubstr("export TOKENYARD_SECRET")));
  EXPECT_EQ(close(fd), 0);
}

TEST(tcp_secret, one_rank_alone_needs_none) {
  TcpRendezvous rendezvous;
  rendezvous.address = "some-host";
  EXPECT_EQ(make_tcp_exchange(rendezvous)->num_ranks(), 1);
}

TEST(tcp_secret, too_short_a_one_is_refused_and_not_shown) {
  TcpRendezvous rendezvous;
  rendezvous.num_ranks = 2;
  rendezvous.secret = "guess me";
  const auto error = error_of([&] { make_tcp_exchange(rendezvous); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("8 bytes"), HasSubstr("TcpRendezvous::secret"), Not(HasSubstr("guess me"))));
}

}  // namespace
}  // namespace tokenyard::test
