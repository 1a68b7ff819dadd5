// A kernel of one's own on a window: all ranks add up their vectors, a piece at a time, in a ring. Ranks are threads of this
// process; each takes the next GPU that there is. Exit status 0: the sums are right, 77: no GPU.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tokenyard/device.cuh"
#include "tokenyard/group.hpp"

namespace {

constexpr int kNumRanks = 4;
constexpr int kPiece = 64 * 1024;  // floats; a rank's vector is kNumRanks pieces
constexpr int kNumRounds = 10;

// The window: the vector, a piece received per step of the first half, and a flag per step.
constexpr std::size_t kPieceBytes = kPiece * sizeof(float);
constexpr std::size_t kReceived = kNumRanks * kPieceBytes;
constexpr std::size_t kFlags = kReceived + (kNumRanks - 1) * kPieceBytes;
constexpr std::size_t kWindowBytes = kFlags + 2 * (kNumRanks - 1) * sizeof(std::uint64_t);

// One block per rank. First every piece travels round and grows by each rank's share, until one rank has its sum; then the sums
// travel on. A rank that has all sums knows that the next one has read its received pieces, so no flag says that they are free.
__global__ void ring_all_reduce(tokenyard::DeviceWindow window, std::uint64_t round, int* is_late) {
  using namespace tokenyard::device;
  using tokenyard::Compare;
  const int next = (window.rank + 1) % kNumRanks;
  const auto floats_at = [&](std::size_t offset) { return reinterpret_cast<float*>(address(window, window.rank, offset)); };
  const auto piece_before = [&](int num_steps) {
    return kPieceBytes * ((window.rank + 2 * kNumRanks - num_steps) % kNumRanks);
  };

  for (int step = 0; step < 2 * (kNumRanks - 1); ++step) {
    const bool adds = step < kNumRanks - 1;
    const std::size_t flag = kFlags + 8 * step;
    const std::size_t sent = adds ? piece_before(step) : piece_before(step - kNumRanks);
    put<Team::kBlock>(window, next, adds ? kReceived + kPieceBytes * step : sent, floats_at(sent), kPieceBytes);
    signal<Team::kBlock>(window, next, flag, round);
    if (!wait<Team::kBlock>(window, flag, Compare::kEqual, round)) {
      if (threadIdx.x == 0) *is_late = 1;
      return;
    }
    if (!adds) continue;
    float* const sum = floats_at(piece_before(step + 1));
    const float* const share = floats_at(kReceived + kPieceBytes * step);
    for (unsigned i = threadIdx.x; i < kPiece; i += blockDim.x) sum[i] += share[i];
    __syncthreads();  // before any thread sends it on
  }
}

void check(cudaError_t result) {
  if (result == cudaSuccess) return;
  std::fprintf(stderr, "%s\n", cudaGetErrorString(result));
  std::exit(1);
}

bool run(std::shared_ptr<tokenyard::Exchange> exchange, int device) {
  tokenyard::GroupOptions options;
  options.device = device;
  const tokenyard::Group group = tokenyard::Group::create(std::move(exchange), options);
  const tokenyard::Window window = group.window(kWindowBytes);
  check(cudaSetDevice(device));
  cudaStream_t stream = nullptr;
  int* is_late = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  check(cudaMallocManaged(&is_late, sizeof(int)));
  *is_late = 0;

  // Every rank begins with its number plus one, and the sums are multiplied by the number of ranks in each further round.
  const std::vector<float> mine(kNumRanks * kPiece, static_cast<float>(group.rank() + 1));
  window.put(group.rank(), 0, mine.data(), mine.size() * sizeof(float));
  group.barrier();  // all have allocated: from here on kernels wait for each other
  float expected = kNumRanks * (kNumRanks + 1) / 2;
  for (int round = 1; round <= kNumRounds; ++round) {
    ring_all_reduce<<<1, 512, 0, stream>>>(window.device_window(), static_cast<std::uint64_t>(round), is_late);
    check(cudaGetLastError());
    if (round > 1) expected *= kNumRanks;
  }
  check(cudaStreamSynchronize(stream));
  group.barrier();

  std::vector<float> sums(mine.size());
  window.get(group.rank(), 0, sums.data(), sums.size() * sizeof(float));
  bool is_right = *is_late == 0;
  for (const float sum : sums) is_right = is_right && sum == expected;
  std::printf("rank %d on GPU %d: the sums are %s\n", group.rank(), device, is_right ? "right" : "wrong");
  group.barrier();
  check(cudaFree(is_late));
  check(cudaStreamDestroy(stream));
  return is_right;
}

}  // namespace

int main() {
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);       // no kernel is loaded behind one that waits
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);  // the ranks' streams do not queue behind each other
  int num_gpus = 0;
  if (cudaGetDeviceCount(&num_gpus) != cudaSuccess || num_gpus == 0) {
    std::printf("no GPU is visible here\n");
    return 77;
  }
  auto exchanges = tokenyard::make_thread_exchange(kNumRanks);
  std::vector<int> is_right(kNumRanks);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    ranks.emplace_back([&, rank] { is_right[rank] = run(std::move(exchanges[rank]), rank % num_gpus); });
  }
  for (std::thread& rank : ranks) rank.join();
  for (const int right : is_right) {
    if (right == 0) return 1;
  }
  return 0;
}
