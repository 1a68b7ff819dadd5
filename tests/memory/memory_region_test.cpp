#include "memory/memory_region.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>

#include "tests/base/expect_error.hpp"
#include "tests/support/process_state.hpp"

namespace tokenyard::test {
namespace {

constexpr std::size_t kNumBytes = 3 * 4096;

FileDescriptor descriptor_of(const MemoryRegion& region) { return FileDescriptor(fcntl(region.fd(), F_DUPFD_CLOEXEC, 0)); }

FileDescriptor make_memfd(std::size_t num_bytes, int seals) {
  FileDescriptor fd(memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(ftruncate(fd.get(), static_cast<off_t>(num_bytes)), 0);
  EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, seals), 0);
  return fd;
}

bool is_zero(const MemoryRegion& region) {
  return std::all_of(region.data(), region.data() + region.num_bytes(), [](std::byte byte) { return byte == std::byte{0}; });
}

void expect_page_aligned(const MemoryRegion& region) { EXPECT_EQ(reinterpret_cast<std::uintptr_t>(region.data()) % 4096, 0); }

TEST(memory_region, anonymous_memory_is_zero_and_page_aligned) {
  const auto region = MemoryRegion::anonymous(kNumBytes);
  EXPECT_EQ(region->num_bytes(), kNumBytes);
  EXPECT_EQ(region->fd(), -1);
  EXPECT_TRUE(is_zero(*region));
  expect_page_aligned(*region);
}

TEST(memory_region, shareable_memory_is_seen_by_whoever_maps_its_descriptor) {
  const auto owner = MemoryRegion::shareable(kNumBytes);
  const auto peer = MemoryRegion::map(descriptor_of(*owner), kNumBytes);
  EXPECT_TRUE(is_zero(*owner));
  expect_page_aligned(*owner);
  expect_page_aligned(*peer);
  EXPECT_NE(owner->data(), peer->data());
  std::memset(owner->data(), 0x5a, kNumBytes);
  EXPECT_EQ(std::memcmp(owner->data(), peer->data(), kNumBytes), 0);
  peer->data()[kNumBytes - 1] = std::byte{7};
  EXPECT_EQ(owner->data()[kNumBytes - 1], std::byte{7});
}

TEST(memory_region, nobody_can_resize_or_unseal_shareable_memory) {
  const auto region = MemoryRegion::shareable(kNumBytes);
  const FileDescriptor fd = descriptor_of(*region);
  EXPECT_EQ(ftruncate(fd.get(), 0), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(ftruncate(fd.get(), kNumBytes + 4096), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(fallocate(fd.get(), 0, 0, kNumBytes + 1), -1);
  EXPECT_EQ(errno, EPERM);
  EXPECT_EQ(fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE), -1) << "sealing against writes would stop later mappings";
  EXPECT_EQ(errno, EPERM);
}

TEST(memory_region, memory_that_could_shrink_or_grow_is_refused) {
  for (const int seals : {0, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_GROW}) {
    expect_error([&] { MemoryRegion::map(make_memfd(kNumBytes, seals), kNumBytes); }, ErrorCode::kDisagreement, "not sealed");
  }
}

TEST(memory_region, memory_of_another_size_is_refused_with_both_sizes) {
  const auto region = MemoryRegion::shareable(kNumBytes);
  expect_error([&] { MemoryRegion::map(descriptor_of(*region), kNumBytes + 1); }, ErrorCode::kDisagreement,
               "12288 bytes of memory where 12289 were expected");
  expect_error([&] { MemoryRegion::map(descriptor_of(*region), 4096); }, ErrorCode::kDisagreement, "4096 were expected");
}

TEST(memory_region, descriptors_that_are_no_memory_are_refused) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const FileDescriptor reading(ends[0]);
  expect_error([&] { MemoryRegion::map(FileDescriptor(ends[1]), kNumBytes); }, ErrorCode::kDisagreement, "not sealed");
  expect_error([&] { MemoryRegion::map(FileDescriptor(), kNumBytes); }, ErrorCode::kDisagreement, "not sealed");
}

TEST(memory_region, an_empty_region_is_valid_and_can_be_shared) {
  EXPECT_NE(MemoryRegion::anonymous(0)->data(), nullptr);
  const auto owner = MemoryRegion::shareable(0);
  EXPECT_EQ(owner->num_bytes(), 0);
  EXPECT_NE(MemoryRegion::map(descriptor_of(*owner), 0)->data(), nullptr);
}

TEST(memory_region, a_mapping_outlives_its_owner) {
  auto owner = MemoryRegion::shareable(kNumBytes);
  const auto peer = MemoryRegion::map(descriptor_of(*owner), kNumBytes);
  owner->data()[0] = std::byte{42};
  owner.reset();
  EXPECT_EQ(peer->data()[0], std::byte{42});
}

TEST(memory_region, only_the_owner_keeps_a_descriptor_and_nobody_in_the_end) {
  const int num_descriptors = count_descriptors();
  const int num_mappings = count_shared_mappings();
  {
    const auto owner = MemoryRegion::shareable(kNumBytes);
    const auto peer = MemoryRegion::map(descriptor_of(*owner), kNumBytes);
    EXPECT_EQ(peer->fd(), -1);
    EXPECT_EQ(count_descriptors(), num_descriptors + 1);
    EXPECT_EQ(count_shared_mappings(), num_mappings + 2);
  }
  EXPECT_EQ(count_descriptors(), num_descriptors);
  EXPECT_EQ(count_shared_mappings(), num_mappings);
}

TEST(memory_region, refused_memory_leaves_nothing_behind) {
  const int num_descriptors = count_descriptors();
  expect_error([] { MemoryRegion::map(make_memfd(kNumBytes, 0), kNumBytes); }, ErrorCode::kDisagreement, "not sealed");
  EXPECT_EQ(count_descriptors(), num_descriptors);
}

TEST(memory_region, more_than_the_system_has_is_an_error_with_the_size) {
  constexpr std::size_t kTooMuch = std::numeric_limits<std::size_t>::max() / 2;
  expect_error([] { MemoryRegion::anonymous(kTooMuch); }, ErrorCode::kSystem, "9223372036854775807 bytes");
  expect_error([] { MemoryRegion::shareable(kTooMuch); }, ErrorCode::kSystem, "9223372036854775807 bytes");
  expect_error([] { MemoryRegion::shareable(std::numeric_limits<std::size_t>::max()); }, ErrorCode::kSystem,
               "18446744073709551615 bytes");
}

}  // namespace
}  // namespace tokenyard::test
