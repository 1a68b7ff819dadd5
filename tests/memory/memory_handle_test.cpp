#include "memory/memory_handle.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "memory/lease.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/support/process_state.hpp"

namespace tokenyard::test {
namespace {

FileDescriptor some_descriptor() { return FileDescriptor(open("/dev/null", O_RDONLY | O_CLOEXEC)); }

HandleBytes some_bytes() {
  HandleBytes bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(3 * i + 1);
  return bytes;
}

// What a peer gets: the message, and a descriptor of its own.
MemoryHandle after_travelling(const MemoryHandle& handle) {
  const HandleMessage message = message_of(7, 4096, handle);
  EXPECT_EQ(message.tag, 7);
  EXPECT_EQ(message.num_bytes, 4096);
  return handle_of(message, FileDescriptor(fcntl(descriptor_of(handle), F_DUPFD_CLOEXEC, 0)));
}

TEST(memory_handle, no_descriptor_is_no_handle) {
  const MemoryHandle none;
  EXPECT_EQ(kind_of(none), HandleKind::kNone);
  EXPECT_EQ(descriptor_of(none), -1);
}

TEST(memory_handle, every_kind_travels_as_a_message_and_a_descriptor) {
  const MemoryHandle descriptor = some_descriptor();
  EXPECT_EQ(kind_of(descriptor), HandleKind::kDescriptor);
  EXPECT_EQ(kind_of(after_travelling(descriptor)), HandleKind::kDescriptor);

  const MemoryHandle fabric = FabricHandle{some_bytes(), some_descriptor()};
  EXPECT_EQ(kind_of(fabric), HandleKind::kFabric);
  EXPECT_EQ(std::get<FabricHandle>(after_travelling(fabric)).bytes, some_bytes());

  const MemoryHandle ipc = IpcHandle{some_bytes(), some_descriptor()};
  EXPECT_EQ(kind_of(ipc), HandleKind::kIpc);
  EXPECT_EQ(std::get<IpcHandle>(after_travelling(ipc)).bytes, some_bytes());
}

TEST(memory_handle, the_lease_is_held_by_handles_wherever_they_are) {
  Lease lease;
  {
    MemoryHandle handle = FabricHandle{some_bytes(), lease.hand_out()};
    const MemoryHandle arrived = after_travelling(handle);
    handle = FileDescriptor();
    EXPECT_TRUE(lease.is_held());
  }
  EXPECT_FALSE(lease.is_held());
}

TEST(memory_handle, what_does_not_belong_together_is_a_disagreement) {
  HandleMessage message = message_of(7, 4096, IpcHandle{some_bytes(), some_descriptor()});
  expect_error([&] { handle_of(message, FileDescriptor()); }, ErrorCode::kDisagreement,
               "a handle of kind ipc, and no descriptor came with it");
  message.kind = 0;
  expect_error([&] { handle_of(message, some_descriptor()); }, ErrorCode::kDisagreement, "a handle of kind 0");
  message.kind = 4;
  expect_error([&] { handle_of(message, some_descriptor()); }, ErrorCode::kDisagreement, "a handle of kind 4");
}

TEST(memory_handle, a_refused_one_leaves_no_descriptor_behind) {
  const int num_descriptors = count_descriptors();
  HandleMessage message;
  message.kind = 99;
  expect_error([&] { handle_of(message, some_descriptor()); }, ErrorCode::kDisagreement, "kind 99");
  EXPECT_EQ(count_descriptors(), num_descriptors);
}

}  // namespace
}  // namespace tokenyard::test
