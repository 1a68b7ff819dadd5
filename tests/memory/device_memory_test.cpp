#include "memory/device_memory.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "memory/gpus.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/support/handles_apart.hpp"
#include "tests/support/process_state.hpp"
#include "tests/support/spin_kernel.hpp"

namespace tokenyard::test {
namespace {

constexpr std::size_t kNumBytes = (3 << 20) + 5;
constexpr int kFirst[] = {0};

std::vector<std::byte> contents(const DeviceMemory& memory) {
  std::vector<std::byte> bytes(memory.num_bytes());
  check_cuda(cudaMemcpy(bytes.data(), memory.data(), bytes.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
  return bytes;
}

TEST(device_memory, without_a_driver_the_error_says_what_is_missing) {
  if (count_gpus() > 0) GTEST_SKIP() << "GPUs are visible here";
  expect_error([] { num_devices(); }, ErrorCode::kUnsupported, "cudaGetDeviceCount failed");
  expect_error([] { DeviceMemory::allocate(1, 0, kFirst); }, ErrorCode::kUnsupported, "driver");
  expect_error([] { handle_offers(0); }, ErrorCode::kUnsupported, "driver");
}

// By kind of handle; kNone: memory of this process alone.
class device_memory_by_kind : public testing::TestWithParam<HandleKind> {
 protected:
  void SetUp() override {
    SKIP_WITHOUT_GPUS(1);
    if (GetParam() != HandleKind::kNone) SKIP_WITHOUT_HANDLES(GetParam());
  }
};
class exported_device_memory : public device_memory_by_kind {};

constexpr auto kKindName = [](const auto& kind) { return std::string(to_string(kind.param)); };
INSTANTIATE_TEST_SUITE_P(kinds, device_memory_by_kind,
                         testing::Values(HandleKind::kNone, HandleKind::kDescriptor, HandleKind::kFabric, HandleKind::kIpc),
                         kKindName);
INSTANTIATE_TEST_SUITE_P(kinds, exported_device_memory,
                         testing::Values(HandleKind::kDescriptor, HandleKind::kFabric, HandleKind::kIpc), kKindName);

TEST_P(device_memory_by_kind, is_zero_at_first_and_ends_with_its_last_pointer) {
  std::size_t free_before = 0;
  std::size_t free_after = 0;
  std::size_t total = 0;
  for (int round = 0; round < 2; ++round) {  // what the first round wrote must not shine through
    auto memory = DeviceMemory::allocate(kNumBytes, 0, kFirst, GetParam());
    EXPECT_EQ(memory->num_bytes(), kNumBytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory->data()) % 4096, 0);
    const std::vector<std::byte> bytes = contents(*memory);
    EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0}; }));
    check_cuda(cudaMemset(memory->data(), 0x77, kNumBytes), "cudaMemset");
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
    memory.reset();
    if (round == 0) check_cuda(cudaMemGetInfo(&free_before, &total), "cudaMemGetInfo");
  }
  check_cuda(cudaMemGetInfo(&free_after, &total), "cudaMemGetInfo");
  EXPECT_EQ(free_before, free_after);
}

TEST_P(exported_device_memory, can_be_imported_and_outlives_its_owner) {
  auto owner = DeviceMemory::allocate(kNumBytes, 0, kFirst, GetParam());
  const MemoryHandle handle = owner->export_handle();
  EXPECT_EQ(kind_of(handle), GetParam());
  const auto peer = DeviceMemory::import(handle, kNumBytes, 0);
  // CUDA IPC does not map memory a second time in the process that it belongs to.
  EXPECT_EQ(owner->data() == peer->data(), GetParam() == HandleKind::kIpc);
  check_cuda(cudaMemset(owner->data(), 0x3c, kNumBytes), "cudaMemset");
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  owner.reset();
  const std::vector<std::byte> bytes = contents(*peer);
  EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0x3c}; }));
  if (GetParam() == HandleKind::kIpc) return;
  expect_error([&] { peer->export_handle(); }, ErrorCode::kUnsupported, "was imported itself");
}

TEST_P(exported_device_memory, lives_in_a_handle_alone_and_ends_with_it) {
  constexpr std::size_t kMuch = std::size_t{256} << 20;
  const auto free_memory = [] {
    DeviceMemory::allocate(1, 0, kFirst);  // frees what nobody holds any more
    std::size_t free = 0;
    std::size_t total = 0;
    check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
    return free;
  };
  const std::size_t free_before = free_memory();
  auto owner = DeviceMemory::allocate(kMuch, 0, kFirst, GetParam());
  check_cuda(cudaMemset(owner->data(), 0x2d, kMuch), "cudaMemset");
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  MemoryHandle handle = owner->export_handle();
  owner.reset();
  EXPECT_LE(free_memory(), free_before - kMuch);
  auto peer = DeviceMemory::import(handle, kMuch, 0);
  handle = FileDescriptor();
  EXPECT_EQ(contents(*peer).back(), std::byte{0x2d});
  peer.reset();
  EXPECT_GT(free_memory(), free_before - kMuch / 2);
}

TEST_P(exported_device_memory, leaves_no_descriptors_behind) {
  const auto share = [] {
    const auto owner = DeviceMemory::allocate(kNumBytes, 0, kFirst, GetParam());
    DeviceMemory::import(owner->export_handle(), kNumBytes, 0);
  };
  share();  // the driver opens what it needs once
  const int num_descriptors = count_descriptors();
  for (int i = 0; i < 3; ++i) share();
  EXPECT_EQ(count_descriptors(), num_descriptors);
}

TEST(device_memory, of_this_process_alone_is_not_exported) {
  SKIP_WITHOUT_GPUS(1);
  if (!handle_capabilities(0).has_virtual_memory) GTEST_SKIP() << "GPU 0 has no virtual memory management";
  const auto memory = DeviceMemory::allocate(kNumBytes, 0, kFirst);
  expect_error([&] { memory->export_handle(); }, ErrorCode::kUnsupported, "taken for this process alone");
}

TEST_P(device_memory_by_kind, all_gpus_that_reach_each_other_store_to_each_other) {
  SKIP_WITHOUT_GPUS(2);
  const PeerAccess access = peer_access(0, 1);
  if (!access.is_possible) GTEST_SKIP() << access.reason;
  const auto memory = DeviceMemory::allocate(kNumBytes, 1, kFirst, GetParam());
  check_cuda(cudaSetDevice(0), "cudaSetDevice");
  check_cuda(cudaMemset(memory->data(), 0x11, kNumBytes), "cudaMemset");
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  check_cuda(cudaSetDevice(1), "cudaSetDevice");
  const std::vector<std::byte> bytes = contents(*memory);
  EXPECT_EQ(bytes[0], std::byte{0x11});
  EXPECT_EQ(bytes.back(), std::byte{0x11});
  check_cuda(cudaSetDevice(0), "cudaSetDevice");
}

TEST(device_memory, the_current_device_stays_what_it_was) {
  SKIP_WITHOUT_GPUS(2);
  check_cuda(cudaSetDevice(0), "cudaSetDevice");
  DeviceMemory::allocate(1, 1, {});
  int device = -1;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  EXPECT_EQ(device, 0);
}

TEST(device_memory, devices_that_do_not_exist_are_refused) {
  SKIP_WITHOUT_GPUS(1);
  expect_error([] { DeviceMemory::allocate(1, 99, {}); }, ErrorCode::kInvalidArgument, "device 99 does not exist");
  expect_error([] { peer_access(0, -1); }, ErrorCode::kInvalidArgument, "device -1 does not exist");
}

TEST(device_memory, more_than_the_gpu_has_is_an_error_that_says_so) {
  SKIP_WITHOUT_GPUS(1);
  expect_error([] { DeviceMemory::allocate(std::size_t{1} << 45, 0, kFirst); }, ErrorCode::kSystem, "cuMemCreate failed");
}

// Ranks take memory while kernels of other ranks wait for them on the same GPU.
TEST(device_memory, is_taken_while_a_kernel_runs) {
  SKIP_WITHOUT_GPUS(1);
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
  std::shared_ptr<DeviceMemory> freed = DeviceMemory::allocate(kNumBytes, 0, kFirst);
  enqueue_delay(stream, std::chrono::milliseconds(1));
  check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
  const auto run = [&](const char* what, const auto& body) {
    enqueue_delay(stream, std::chrono::milliseconds(300));
    const auto begin = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    const bool runs_on = cudaStreamQuery(stream) == cudaErrorNotReady;
    std::printf("%s behind a running kernel: %.2f ms\n", what, took.count());
    check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
    return runs_on;
  };
  std::shared_ptr<DeviceMemory> taken;
  EXPECT_TRUE(run("taking memory", [&] { taken = DeviceMemory::allocate(kNumBytes, 0, kFirst); }));
  run("letting go of memory", [&] { freed.reset(); });
  check_cuda(cudaStreamDestroy(stream), "cudaStreamDestroy");
}

}  // namespace
}  // namespace tokenyard::test
