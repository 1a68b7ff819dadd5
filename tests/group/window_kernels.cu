#include "tests/group/window_kernels.hpp"

#include "base/cuda_error.hpp"
#include "tokenyard/device.cuh"

namespace tokenyard::test {
namespace {

using namespace tokenyard::device;

// Teams share the ranks among themselves. One block.
template <Team kTeam>
__global__ void exchange_kernel(ExchangeParts args) {
  const DeviceWindow& window = args.window;
  const std::size_t own_part = kPartsOffset + args.part_bytes * static_cast<std::size_t>(window.rank);
  const int num_teams = static_cast<int>(blockDim.x / size_of_team<kTeam>());
  const int team = static_cast<int>(threadIdx.x / size_of_team<kTeam>());
  for (int i = team; i < window.num_ranks; i += num_teams) {
    const int peer = (window.rank + i) % window.num_ranks;
    put<kTeam>(window, peer, own_part, args.source + args.part_bytes * peer, args.part_bytes);
    signal<kTeam>(window, peer, 8 * static_cast<std::size_t>(window.rank), args.round);
  }
  for (int writer = team; writer < window.num_ranks; writer += num_teams) {
    const bool is_well = wait<kTeam>(window, 8 * static_cast<std::size_t>(writer), Compare::kEqual, args.round);
    if (!is_well) atomicAdd(args.num_failures, 1);
    const std::byte* part = address(window, window.rank, kPartsOffset + args.part_bytes * writer);
    for (std::size_t i = index_in_team<kTeam>(); i < args.part_bytes; i += size_of_team<kTeam>()) {
      args.received[args.part_bytes * writer + i] = part[i];
    }
  }
}

__global__ void add_kernel(DeviceWindow window, std::size_t offset) {
  for (int rank = 0; rank < window.num_ranks; ++rank) atomic_add(window, rank, offset, 1);
}

__global__ void wait_kernel(DeviceWindow window, std::size_t offset, std::uint64_t timeout_nanoseconds, int* num_told) {
  if (wait<Team::kBlock>(window, offset, Compare::kEqual, 1, timeout_nanoseconds)) atomicAdd(num_told, 1);
}

}  // namespace

void exchange_parts(TeamKind kind, const ExchangeParts& args, Stream stream) {
  switch (kind) {
    case TeamKind::kThread: exchange_kernel<Team::kThread><<<1, 32, 0, stream>>>(args); break;
    case TeamKind::kWarp: exchange_kernel<Team::kWarp><<<1, 96, 0, stream>>>(args); break;
    case TeamKind::kBlock: exchange_kernel<Team::kBlock><<<1, 256, 0, stream>>>(args); break;
  }
  check_cuda(cudaGetLastError(), "exchange_parts");
}

void add_from_all_threads(const DeviceWindow& window, std::size_t offset, Stream stream) {
  add_kernel<<<4, 64, 0, stream>>>(window, offset);
  check_cuda(cudaGetLastError(), "add_from_all_threads");
}

void wait_in_block(const DeviceWindow& window, std::size_t offset, std::uint64_t timeout_nanoseconds, int* num_told,
                   Stream stream) {
  wait_kernel<<<1, 96, 0, stream>>>(window, offset, timeout_nanoseconds, num_told);
  check_cuda(cudaGetLastError(), "wait_in_block");
}

void load_test_kernels() {
  cudaFuncAttributes attributes{};
  for (const void* kernel : {reinterpret_cast<const void*>(exchange_kernel<Team::kThread>),
                             reinterpret_cast<const void*>(exchange_kernel<Team::kWarp>),
                             reinterpret_cast<const void*>(exchange_kernel<Team::kBlock>),
                             reinterpret_cast<const void*>(add_kernel), reinterpret_cast<const void*>(wait_kernel)}) {
    check_cuda(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
  }
}

}  // namespace tokenyard::test
