#include "base/cuda_error.hpp"
#include "cli/gpu_line_up.hpp"
#include "tokenyard/device.cuh"

namespace tokenyard::cli {
namespace {

constexpr std::uint64_t kGateNanoseconds = 20'000'000;
constexpr std::uint64_t kTripsNanoseconds = 1'000'000'000;
constexpr int kNumThreads = 256;

__device__ bool await_word(const std::uint64_t* word, std::uint64_t value, std::uint64_t timeout_nanoseconds) {
  const std::uint64_t begin = device::ptx::global_nanoseconds();
  while (device::ptx::load_acquire_system(word) < value) {
    if (device::ptx::global_nanoseconds() - begin > timeout_nanoseconds) return false;
  }
  return true;
}

__global__ void line_up(DeviceWindow window, const std::uint64_t* gate, std::uint64_t round) {
  using device::Team;
  if (threadIdx.x == 0) await_word(gate, round, kGateNanoseconds);
  __syncthreads();
  const auto first = static_cast<int>(threadIdx.x);
  for (int peer = first; peer < window.num_ranks; peer += kNumThreads) {
    device::signal<Team::kThread>(window, peer, window.rank * sizeof(std::uint64_t), round);
  }
  for (int peer = first; peer < window.num_ranks; peer += kNumThreads) {
    device::wait<Team::kThread>(window, peer * sizeof(std::uint64_t), Compare::kGreaterEqual, round);
  }
}

__global__ void do_nothing() {}

__global__ void make_round_trips(std::uint64_t* own_word, std::uint64_t* peer_word, int num_trips, bool begins) {
  for (std::uint64_t trip = 1; trip <= static_cast<std::uint64_t>(num_trips); ++trip) {
    if (begins) device::ptx::store_release_system(peer_word, trip);
    if (!await_word(own_word, trip, kTripsNanoseconds)) return;
    if (!begins) device::ptx::store_release_system(peer_word, trip);
  }
}

}  // namespace

void enqueue_line_up(const DeviceWindow& window, const std::uint64_t* gate, std::uint64_t round, Stream stream) {
  line_up<<<1, kNumThreads, 0, stream>>>(window, gate, round);
  check_cuda(cudaGetLastError(), "line_up");
}

void load_line_up() {
  cudaFuncAttributes attributes{};
  check_cuda(cudaFuncGetAttributes(&attributes, line_up), "cudaFuncGetAttributes");
  check_cuda(cudaFuncGetAttributes(&attributes, do_nothing), "cudaFuncGetAttributes");
  check_cuda(cudaFuncGetAttributes(&attributes, make_round_trips), "cudaFuncGetAttributes");
}

void enqueue_nothing(Stream stream) {
  do_nothing<<<1, 1, 0, stream>>>();
  check_cuda(cudaGetLastError(), "do_nothing");
}

void enqueue_round_trips(std::uint64_t* own_word, std::uint64_t* peer_word, int num_trips, bool begins, Stream stream) {
  make_round_trips<<<1, 1, 0, stream>>>(own_word, peer_word, num_trips, begins);
  check_cuda(cudaGetLastError(), "make_round_trips");
}

}  // namespace tokenyard::cli
