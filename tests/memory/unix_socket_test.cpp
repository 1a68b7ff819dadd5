#include "memory/unix_socket.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>
#include <utility>

#include "memory/memory_region.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/support/process_state.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

using namespace std::chrono_literals;

const Deadline kAtOnce{0ms};

// Two ends of a connection, made the way that ranks make one.
std::pair<FileDescriptor, FileDescriptor> make_connection() {
  std::string name;
  const FileDescriptor listener = listen_unix(&name);
  FileDescriptor client = connect_unix(name, Deadline(std::chrono::seconds(10)));
  return {std::move(client), accept_unix(listener.get(), Deadline(20s))};
}

bool is_listed(const std::string& name) {
  std::ifstream table("/proc/net/unix");
  for (std::string line; std::getline(table, line);) {
    if (line.ends_with("@" + name)) return true;
  }
  return false;
}

TEST(unix_socket, a_message_carries_its_words_and_a_descriptor) {
  const auto [sender, receiver] = make_connection();
  const auto region = MemoryRegion::shareable(4096);
  region->data()[5] = std::byte{9};
  const HandleMessage sent{.tag = 17, .num_bytes = 4096, .kind = 3, .bytes = {std::byte{8}, std::byte{9}}};
  ASSERT_EQ(send_handle(sender.get(), sent, region->fd()), SocketResult::kDone);
  HandleMessage message;
  FileDescriptor fd;
  ASSERT_EQ(receive_handle(receiver.get(), &message, &fd, Deadline(20s)), SocketResult::kDone);
  EXPECT_EQ(message.tag, 17);
  EXPECT_EQ(message.num_bytes, 4096);
  EXPECT_EQ(message.kind, 3);
  EXPECT_EQ(message.bytes, sent.bytes);
  EXPECT_NE(fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(MemoryRegion::map(std::move(fd), 4096)->data()[5], std::byte{9});
}

TEST(unix_socket, messages_keep_their_bounds_and_their_order) {
  const auto [sender, receiver] = make_connection();
  for (std::uint64_t tag = 0; tag < 5; ++tag) ASSERT_EQ(send_handle(sender.get(), {tag, tag + 100}, -1), SocketResult::kDone);
  for (std::uint64_t tag = 0; tag < 5; ++tag) {
    HandleMessage message;
    FileDescriptor fd;
    ASSERT_EQ(receive_handle(receiver.get(), &message, &fd, Deadline(20s)), SocketResult::kDone);
    EXPECT_EQ(message.tag, tag);
    EXPECT_EQ(message.num_bytes, tag + 100);
    EXPECT_FALSE(fd) << "no descriptor came with this message";
  }
}

TEST(unix_socket, processes_pass_each_other_memory) {
  std::string name;
  const FileDescriptor listener = listen_unix(&name);
  RankProcesses child(1, [&](int) {
    const FileDescriptor socket = connect_unix(name, Deadline(std::chrono::seconds(10)));
    const auto region = MemoryRegion::shareable(8192);
    region->data()[8191] = std::byte{77};
    ASSERT_EQ(send_handle(socket.get(), {1, 8192}, region->fd()), SocketResult::kDone);
    HandleMessage message;
    FileDescriptor fd;
    ASSERT_EQ(receive_handle(socket.get(), &message, &fd, Deadline(20s)), SocketResult::kDone);
    EXPECT_EQ(region->data()[0], std::byte{78});
  });
  const FileDescriptor socket = accept_unix(listener.get(), Deadline(20s));
  HandleMessage message;
  FileDescriptor fd;
  ASSERT_EQ(receive_handle(socket.get(), &message, &fd, Deadline(20s)), SocketResult::kDone);
  const auto region = MemoryRegion::map(std::move(fd), message.num_bytes);
  EXPECT_EQ(region->data()[8191], std::byte{77});
  region->data()[0] = std::byte{78};
  ASSERT_EQ(send_handle(socket.get(), {2, 0}, -1), SocketResult::kDone);
  EXPECT_EQ(child.wait(20s)[0].exit_code, 0);
}

TEST(unix_socket, connecting_where_nobody_listens_gives_an_empty_descriptor) {
  EXPECT_FALSE(connect_unix("tokenyard-nobody-listens-here", Deadline(std::chrono::seconds(10))));
  std::string name;
  {
    const FileDescriptor gone = listen_unix(&name);
  }
  EXPECT_FALSE(connect_unix(name, Deadline(std::chrono::seconds(10))));
}

TEST(unix_socket, names_are_unique_and_vanish_with_their_listener) {
  std::string first_name, second_name;
  {
    const FileDescriptor first = listen_unix(&first_name);
    const FileDescriptor second = listen_unix(&second_name);
    EXPECT_NE(first_name, second_name);
    EXPECT_TRUE(is_listed(first_name));
  }
  EXPECT_FALSE(is_listed(first_name));
  EXPECT_FALSE(is_listed(second_name));
}

TEST(unix_socket, accepting_and_receiving_end_at_their_deadline) {
  std::string name;
  const FileDescriptor listener = listen_unix(&name);
  EXPECT_FALSE(accept_unix(listener.get(), Deadline(30ms)));
  const auto [sender, receiver] = make_connection();
  HandleMessage message;
  FileDescriptor fd;
  const Deadline watch(1h);
  EXPECT_EQ(receive_handle(receiver.get(), &message, &fd, Deadline(30ms)), SocketResult::kTimeout);
  EXPECT_GE(watch.elapsed(), 30ms);
  EXPECT_EQ(receive_handle(receiver.get(), &message, &fd, kAtOnce), SocketResult::kTimeout);
}

TEST(unix_socket, a_closed_end_is_noticed_after_its_last_message) {
  auto [sender, receiver] = make_connection();
  EXPECT_FALSE(is_closed(receiver.get()));
  ASSERT_EQ(send_handle(sender.get(), {3, 0}, -1), SocketResult::kDone);
  {
    const FileDescriptor closed = std::move(sender);
  }
  EXPECT_TRUE(is_closed(receiver.get()));
  HandleMessage message;
  FileDescriptor fd;
  EXPECT_EQ(receive_handle(receiver.get(), &message, &fd, kAtOnce), SocketResult::kDone);
  EXPECT_EQ(message.tag, 3);
  EXPECT_EQ(receive_handle(receiver.get(), &message, &fd, kAtOnce), SocketResult::kClosed);
  EXPECT_EQ(send_handle(receiver.get(), {4, 0}, -1), SocketResult::kClosed) << "and no signal ends the process";
}

TEST(unix_socket, a_killed_process_is_noticed) {
  std::string name;
  const FileDescriptor listener = listen_unix(&name);
  RankProcesses child(1, [&](int) {
    const FileDescriptor socket = connect_unix(name, Deadline(std::chrono::seconds(10)));
    pause();
  });
  const FileDescriptor socket = accept_unix(listener.get(), Deadline(20s));
  EXPECT_FALSE(is_closed(socket.get()));
  child.send_signal(0, SIGKILL);
  EXPECT_EQ(child.wait(20s)[0].signal, SIGKILL);
  EXPECT_TRUE(is_closed(socket.get()));
}

TEST(unix_socket, sending_to_somebody_who_never_reads_is_busy_and_goes_on_once_it_does) {
  const auto [sender, receiver] = make_connection();
  int num_sent = 0;
  while (send_handle(sender.get(), {static_cast<std::uint64_t>(num_sent), 0}, -1) == SocketResult::kDone) ++num_sent;
  EXPECT_GT(num_sent, 10);
  HandleMessage message;
  FileDescriptor fd;
  for (int tag = 0; tag < num_sent; ++tag) {
    ASSERT_EQ(receive_handle(receiver.get(), &message, &fd, kAtOnce), SocketResult::kDone);
    EXPECT_EQ(message.tag, static_cast<std::uint64_t>(tag));
  }
  EXPECT_EQ(send_handle(sender.get(), {0, 0}, -1), SocketResult::kDone);
}

TEST(unix_socket, a_message_of_another_size_is_a_disagreement) {
  const auto [sender, receiver] = make_connection();
  ASSERT_EQ(send(sender.get(), "short", 5, MSG_NOSIGNAL), 5);
  HandleMessage message;
  FileDescriptor fd;
  expect_error([&] { receive_handle(receiver.get(), &message, &fd, kAtOnce); }, ErrorCode::kDisagreement,
               "5 bytes where 88 were expected");
}

TEST(unix_socket, running_out_of_descriptors_is_reported_as_such) {
  const auto [sender, receiver] = make_connection();
  const auto region = MemoryRegion::shareable(4096);
  ASSERT_EQ(send_handle(sender.get(), {1, 4096}, region->fd()), SocketResult::kDone);
  rlimit old_limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &old_limit), 0);
  const FileDescriptor next(dup(receiver.get()));
  const rlimit new_limit{static_cast<rlim_t>(next.get()), old_limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &new_limit), 0);
  HandleMessage message;
  FileDescriptor fd;
  expect_error([&] { receive_handle(receiver.get(), &message, &fd, kAtOnce); }, ErrorCode::kSystem, "ulimit -n");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &old_limit), 0);
}

TEST(unix_socket, other_users_are_turned_away) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root to become another user";
  std::string name;
  const FileDescriptor listener = listen_unix(&name);
  RankProcesses child(1, [&](int) {
    if (setuid(65534) != 0) return;
    const FileDescriptor socket = connect_unix(name, Deadline(std::chrono::seconds(10)));
    HandleMessage message;
    FileDescriptor fd;
    EXPECT_EQ(receive_handle(socket.get(), &message, &fd, Deadline(20s)), SocketResult::kClosed);
  });
  EXPECT_FALSE(accept_unix(listener.get(), Deadline(500ms)));
  EXPECT_EQ(child.wait(20s)[0].exit_code, 0);
}

}  // namespace
}  // namespace tokenyard::test
