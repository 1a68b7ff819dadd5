#include "memory/device_memory.hpp"

#include <algorithm>
#include <chrono>
#include <cstdio>

#include "memory/gpus.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/kernels/cuda/device_array.hpp"
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
}

TEST(device_memory, is_zero_at_first_and_ends_with_its_last_pointer) {
  SKIP_WITHOUT_GPUS(1);
  std::size_t free_before = 0;
  std::size_t free_after = 0;
  std::size_t total = 0;
  for (int round = 0; round < 2; ++round) {  // what the first round wrote must not shine through
    auto memory = DeviceMemory::allocate(kNumBytes, 0, kFirst);
    EXPECT_EQ(memory->num_bytes(), kNumBytes);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(memory->data()) % (2 << 20), 0);
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

TEST(device_memory, what_is_exported_can_be_imported_and_outlives_its_owner) {
  SKIP_WITHOUT_GPUS(1);
  auto owner = DeviceMemory::allocate(kNumBytes, 0, kFirst);
  const auto peer = DeviceMemory::import(owner->export_handle(), kNumBytes, kFirst);
  EXPECT_NE(owner->data(), peer->data());
  check_cuda(cudaMemset(owner->data(), 0x3c, kNumBytes), "cudaMemset");
  check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  owner.reset();
  const std::vector<std::byte> bytes = contents(*peer);
  EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(), [](std::byte byte) { return byte == std::byte{0x3c}; }));
  expect_error([&] { peer->export_handle(); }, ErrorCode::kUnsupported, "was imported itself");
}

TEST(device_memory, leaves_no_descriptors_behind) {
  SKIP_WITHOUT_GPUS(1);
  DeviceMemory::allocate(kNumBytes, 0, kFirst);  // the driver opens what it needs once
  const int num_descriptors = count_descriptors();
  for (int i = 0; i < 3; ++i) {
    const auto owner = DeviceMemory::allocate(kNumBytes, 0, kFirst);
    DeviceMemory::import(owner->export_handle(), kNumBytes, kFirst);
  }
  EXPECT_EQ(count_descriptors(), num_descriptors);
}

TEST(device_memory, all_gpus_that_reach_each_other_store_to_each_other) {
  SKIP_WITHOUT_GPUS(2);
  const PeerAccess access = peer_access(0, 1);
  if (!access.is_possible) GTEST_SKIP() << access.reason;
  const auto memory = DeviceMemory::allocate(kNumBytes, 1, kFirst);
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
