// Processes at the door that are no ranks, and doors that are not rank 0's.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "exchange/tcp_limits.hpp"
#include "tests/support/exchange_by_hand.hpp"
#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {
namespace {

using testing::AllOf;
using testing::AnyOf;
using testing::HasSubstr;

// The ranks meet although the strangers are there, and soon.
void expect_meeting_despite_strangers(const TestListener& listener) {
  const Deadline patience(kHelloLimit);
  run_ranks(3, [&](int rank) {
    // The strangers come first.
    if (rank != 0) std::this_thread::sleep_for(100ms);
    make_tcp_exchange(rendezvous_at(listener, rank, 3))->barrier(kAmple);
  });
  EXPECT_FALSE(patience.passed()) << "the ranks had to wait for a stranger's limit";
}

TEST(tcp_strangers, silent_ones_hold_up_nobody) {
  const TestListener listener = listen_on_loopback();
  std::vector<FileDescriptor> strangers;
  for (int i = 0; i < 100; ++i) strangers.push_back(connect_stranger(listener.port));
  expect_meeting_despite_strangers(listener);
}

TEST(tcp_strangers, more_than_there_is_room_for_hold_up_nobody) {
  const TestListener listener = listen_on_loopback();
  std::atomic<bool> has_room{true};
  run_ranks(3, [&](int rank) {
    std::vector<FileDescriptor> strangers;
    if (rank == 1) {
      for (std::size_t i = 0; i < kMaxStrangers + 200; ++i) {
        strangers.push_back(connect_stranger(listener.port));
        if (i % 50 == 0) std::this_thread::sleep_for(5ms);  // or the kernel's queue overflows, which costs seconds
      }
      has_room = false;
    }
    while (rank == 2 && has_room) std::this_thread::sleep_for(1ms);
    make_tcp_exchange(rendezvous_at(listener, rank, 3))->barrier(kAmple);
  });
}

TEST(tcp_strangers, garbage_is_dropped_with_a_warning) {
  const TestListener listener = listen_on_loopback();
  const FileDescriptor stranger = connect_stranger(listener.port);
  send_bytes(stranger, to_bytes("GET /index.html HTTP/1.1\r\nHost: localhost\r\n\r\n"));
  testing::internal::CaptureStderr();
  expect_meeting_despite_strangers(listener);
  EXPECT_THAT(
      testing::internal::GetCapturedStderr(),
      AllOf(HasSubstr("warning"), HasSubstr("dropped a connection from 127.0.0.1:"), HasSubstr("no Tokenyard message")));
  EXPECT_TRUE(receive_all(stranger).empty());
}

TEST(tcp_strangers, a_truncated_hello_holds_up_nobody) {
  const TestListener listener = listen_on_loopback();
  const FileDescriptor stays = connect_stranger(listener.port);
  FileDescriptor goes = connect_stranger(listener.port);
  const std::vector<std::byte> hello = hello_of(kWireVersion, 3, 1);
  send_bytes(stays, {hello.begin(), hello.end() - 1});
  send_bytes(goes, {hello.begin(), hello.begin() + kFrameHeaderBytes / 2});
  hang_up(std::move(goes));
  expect_meeting_despite_strangers(listener);
}

TEST(tcp_strangers, a_hello_without_end_is_dropped) {
  const TestListener listener = listen_on_loopback();
  const FileDescriptor stranger = connect_stranger(listener.port);
  send_bytes(stranger, encode_header({.type = FrameType::kHello, .num_body_bytes = 1ull << 60}));
  testing::internal::CaptureStderr();
  expect_meeting_despite_strangers(listener);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("announced a message of 1152921504606846976 bytes"));
}

TEST(tcp_strangers, a_message_that_is_no_hello_is_dropped) {
  const TestListener listener = listen_on_loopback();
  const FileDescriptor stranger = connect_stranger(listener.port);
  send_bytes(stranger, make_frame(FrameType::kContribution, 1, to_bytes("rows"))->bytes());
  const FileDescriptor another = connect_stranger(listener.port);
  send_bytes(another, make_frame(FrameType::kHello, 0, to_bytes("short"))->bytes());
  testing::internal::CaptureStderr();
  expect_meeting_despite_strangers(listener);
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("sent a message that is no hello"));
}

TEST(tcp_strangers, a_silent_one_is_put_out_at_its_own_limit) {
  const TestListener listener = listen_on_loopback();
  const FileDescriptor stranger = connect_stranger(listener.port);
  std::thread rank_zero([&] { EXPECT_TRUE(error_of([&] { make_tcp_exchange(rendezvous_at(listener, 0, 2, 20s)); })); });
  const Deadline since(20s);
  EXPECT_TRUE(receive_all(stranger).empty());
  EXPECT_GE(since.elapsed(), kHelloLimit - 100ms);
  EXPECT_LT(since.elapsed(), 15s);
  send_bytes(connect_stranger(listener.port), hello_of(kWireVersion, 3, 1));  // ends the rendezvous
  rank_zero.join();
}

TEST(tcp_strangers, a_rank_of_another_version_is_told_and_ends_it_for_all) {
  const TestListener listener = listen_on_loopback();
  std::optional<Error> error;
  std::thread rank_zero([&] { error = error_of([&] { make_tcp_exchange(rendezvous_at(listener, 0, 4)); }); });
  const FileDescriptor joined = join_by_hand(listener.port, 4, 1);
  const FileDescriptor newer = connect_stranger(listener.port);
  send_bytes(newer, hello_of(kWireVersion + 8, 4, 2));
  const auto verdict = verdict_in(receive_all(newer));
  const auto relayed = verdict_in(receive_all(joined));
  rank_zero.join();
  ASSERT_TRUE(error && verdict && relayed);
  EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
  EXPECT_EQ(error->failure().culprit, 2);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("rank 2"), HasSubstr("speaks version " + std::to_string(kWireVersion + 8)),
                                   HasSubstr("rank 0 version " + std::to_string(kWireVersion))));
  EXPECT_EQ(verdict->text, error->what());
  EXPECT_EQ(relayed->text, error->what());
}

TEST(tcp_strangers, a_duplicate_rank_is_told_and_ends_it_for_all) {
  const TestListener listener = listen_on_loopback();
  std::optional<Error> error;
  std::thread rank_zero([&] { error = error_of([&] { make_tcp_exchange(rendezvous_at(listener, 0, 4)); }); });
  const FileDescriptor bystander = join_by_hand(listener.port, 4, 1);
  const FileDescriptor first = join_by_hand(listener.port, 4, 2);
  const auto second = error_of([&] { make_tcp_exchange(rendezvous_at(listener, 2, 4)); });
  rank_zero.join();
  ASSERT_TRUE(error && second);
  EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
  EXPECT_EQ(error->failure().culprit, 2);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("two processes say that they are rank 2"), HasSubstr("RANK")));
  EXPECT_EQ(second->code(), ErrorCode::kDisagreement);
  EXPECT_STREQ(second->what(), error->what());
  for (const FileDescriptor* joined : {&bystander, &first}) {
    const auto relayed = verdict_in(receive_all(*joined));
    ASSERT_TRUE(relayed);
    EXPECT_EQ(relayed->text, error->what());
  }
}

TEST(tcp_strangers, impossible_ranks_are_refused) {
  for (const std::uint32_t rank : {0u, 3u, 0xffffffffu}) {
    const TestListener listener = listen_on_loopback();
    const FileDescriptor stranger = connect_stranger(listener.port);
    send_bytes(stranger, hello_of(kWireVersion, 3, rank));
    const auto error = error_of([&] { make_tcp_exchange(rendezvous_at(listener, 0, 3)); });
    ASSERT_TRUE(error);
    EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
    EXPECT_THAT(error->what(), HasSubstr("rank " + std::to_string(rank)));
    EXPECT_TRUE(verdict_in(receive_all(stranger)));
  }
}

TEST(tcp_strangers, a_rank_that_dies_before_all_have_joined_is_named) {
  const TestListener listener = listen_on_loopback();
  std::optional<Error> error;
  std::thread rank_zero([&] { error = error_of([&] { make_tcp_exchange(rendezvous_at(listener, 0, 4)); }); });
  const FileDescriptor joined = join_by_hand(listener.port, 4, 1);
  FileDescriptor dying = join_by_hand(listener.port, 4, 3);
  hang_up(std::move(dying));
  rank_zero.join();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kPeerLost);
  EXPECT_EQ(error->failure().culprit, 3);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("rendezvous"), HasSubstr("rank 3"), HasSubstr("has left or died")));
  const auto relayed = verdict_in(receive_all(joined));
  ASSERT_TRUE(relayed);
  EXPECT_EQ(relayed->text, error->what());
}

TEST(tcp_strangers, nonsense_from_a_joined_rank_ends_the_round) {
  for (const auto& nonsense : {to_bytes("nobody speaks like this, not even over TCP"),
                               make_frame(FrameType::kContribution, 9)->bytes(), make_frame(FrameType::kHello, 1)->bytes(),
                               encode_header({.type = FrameType::kContribution, .round = 1, .num_body_bytes = 1 << 30})}) {
    const TestListener listener = listen_on_loopback();
    const FileDescriptor odd = connect_stranger(listener.port);
    send_bytes(odd, hello_of(kWireVersion, 3, 2));
    const auto errors = errors_of_ranks(2, [&](int rank) {
      const auto exchange = make_tcp_exchange(rendezvous_at(listener, rank, 3));
      if (rank == 1) send_bytes(odd, nonsense);
      exchange->barrier(kAmple);
    });
    for (const auto& error : errors) {
      ASSERT_TRUE(error);
      EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
      EXPECT_EQ(error->failure().culprit, 2);
    }
  }
}

// What rank 1 says about a door that is not rank 0's. `behave` gets each accepted connection.
template <class Behave>
std::optional<Error> error_at_wrong_door(std::chrono::milliseconds timeout, int& num_visits, Behave behave) {
  const TestListener listener = listen_on_loopback();
  std::thread other([&] {
    while (true) {
      const FileDescriptor visitor(accept(listener.fd, nullptr, nullptr));
      if (!visitor) return;
      ++num_visits;
      behave(visitor);
    }
  });
  const auto error = error_of([&] { make_tcp_exchange(rendezvous_at(listener, 1, 2, timeout)); });
  shutdown(listener.fd, SHUT_RDWR);
  other.join();
  close(listener.fd);
  return error;
}

TEST(tcp_strangers, another_program_at_the_port_is_recognised) {
  int num_visits = 0;
  const auto error = error_at_wrong_door(kAmple, num_visits, [](const FileDescriptor& visitor) {
    send_bytes(visitor, to_bytes("SSH-2.0-OpenSSH_9.2p1 and some more so that it is long enough\r\n"));
    receive_all(visitor);
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("is not rank 0 of this job"), HasSubstr("TOKENYARD_PORT")));
}

TEST(tcp_strangers, another_program_that_says_nothing_is_told_apart_from_an_absent_rank_zero) {
  int num_visits = 0;
  const auto error = error_at_wrong_door(200ms, num_visits, [](const FileDescriptor& visitor) { receive_all(visitor); });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kTimeout);
  EXPECT_EQ(error->failure().culprit, 0);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("took the connection of rank 1"), HasSubstr("200 ms")));
}

TEST(tcp_strangers, a_connection_closed_before_an_answer_is_tried_again) {
  int num_visits = 0;
  const auto error = error_at_wrong_door(300ms, num_visits, [](const FileDescriptor&) {});
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kTimeout);
  // The last try may be so close to the deadline that only that is seen.
  EXPECT_THAT(error->what(), AnyOf(HasSubstr("without an answer"), HasSubstr("no answer came")));
  EXPECT_GE(num_visits, 2);
}

TEST(tcp_strangers, rank_zero_of_another_version_is_understood) {
  int num_visits = 0;
  const auto error = error_at_wrong_door(kAmple, num_visits, [](const FileDescriptor& visitor) {
    const auto body =
        encode_verdict(make_verdict(ErrorCode::kDisagreement, 1, 0, "rank 1 speaks version 1 and rank 0 version 5"));
    send_bytes(visitor, encode_header({.version = 5, .type = FrameType::kFailed, .num_body_bytes = body.size()}));
    send_bytes(visitor, body);
  });
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code(), ErrorCode::kDisagreement);
  EXPECT_THAT(error->what(), HasSubstr("rank 0 version 5"));
}

}  // namespace
}  // namespace tokenyard::test
