#include "memory/lease.hpp"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "tests/support/process_state.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

TEST(lease, is_held_until_every_end_and_every_copy_is_closed) {
  Lease lease;
  EXPECT_FALSE(lease.is_held());
  FileDescriptor first = lease.hand_out();
  FileDescriptor second = lease.hand_out();
  FileDescriptor copy = copy_of(second);
  EXPECT_TRUE(lease.is_held());
  first = FileDescriptor();
  second = FileDescriptor();
  EXPECT_TRUE(lease.is_held());
  copy = FileDescriptor();
  EXPECT_FALSE(lease.is_held());
}

TEST(lease, can_be_held_again) {
  Lease lease;
  lease.hand_out();
  EXPECT_FALSE(lease.is_held());
  const FileDescriptor end = lease.hand_out();
  EXPECT_TRUE(lease.is_held());
}

TEST(lease, ends_with_the_process_that_holds_it) {
  Lease lease;
  FileDescriptor end = lease.hand_out();
  RankProcesses holder(1, [&](int) {
    while (true) pause();
  });
  end = FileDescriptor();
  EXPECT_TRUE(lease.is_held());
  holder.send_signal(0, SIGKILL);
  holder.wait();
  EXPECT_FALSE(lease.is_held());
}

TEST(lease, leaves_no_descriptors_behind) {
  const int num_descriptors = count_descriptors();
  {
    Lease lease;
    const FileDescriptor end = lease.hand_out();
    EXPECT_GT(count_descriptors(), num_descriptors);
  }
  EXPECT_EQ(count_descriptors(), num_descriptors);
}

}  // namespace
}  // namespace tokenyard::test
