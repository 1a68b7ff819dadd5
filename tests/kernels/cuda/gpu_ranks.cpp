#include "tests/kernels/cuda/gpu_ranks.hpp"

#include <algorithm>
#include <cstdlib>

#include "kernels/cuda/load.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumTracksOfTests = 2;

// Before CUDA starts: streams that share a queue of the GPU wait for each other.
[[maybe_unused]] const bool kHasManyQueues = setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0) == 0;

}  // namespace

GpuRanks::GpuRanks(int num_ranks, int num_gpus) : ranks_(num_ranks) {
  for (int gpu = 0; gpu < std::min(num_gpus, num_ranks); ++gpu) devices_.push_back(gpu);
  for (int rank = 0; rank < num_ranks; ++rank) {
    Rank& made = ranks_[rank];
    made.device = rank % static_cast<int>(devices_.size());
    select(rank);
    cuda::load_kernels();
    check_cuda(cudaStreamCreateWithFlags(&made.stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    made.state = DeviceArray<cuda::LaunchState>(1);
    made.lines = shared_memory(rank, kNumTracksOfTests * num_ranks * sizeof(PeerLine) + sizeof(std::uint64_t));
    made.turns = DeviceArray<std::uint64_t>(std::vector<std::uint64_t>(kNumTracksOfTests, signal_word(1, 1)));
  }
  for (int rank = 0; rank < num_ranks; ++rank) {
    std::vector<PeerLine*> lines;
    std::vector<std::uint64_t*> failures;
    for (int track = 0; track < kNumTracksOfTests; ++track) {
      for (const Rank& peer : ranks_) lines.push_back(reinterpret_cast<PeerLine*>(peer.lines->data()) + track * num_ranks);
    }
    for (int peer = 0; peer < num_ranks; ++peer) failures.push_back(failure_word(peer));
    ranks_[rank].all_lines = on_device(rank, lines);
    ranks_[rank].failures = on_device(rank, failures);
  }
}

GpuRanks::~GpuRanks() {
  for (int rank = 0; rank < num_ranks(); ++rank) {
    cudaSetDevice(ranks_[rank].device);
    cudaStreamSynchronize(ranks_[rank].stream);
  }
  for (const Rank& rank : ranks_) cudaStreamDestroy(rank.stream);
}

std::shared_ptr<DeviceMemory> GpuRanks::shared_memory(int rank, std::size_t num_bytes) const {
  return DeviceMemory::allocate(num_bytes, ranks_[rank].device, devices_);
}

std::uint64_t* GpuRanks::failure_word(int rank) const {
  return reinterpret_cast<std::uint64_t*>(ranks_[rank].lines->data() + kNumTracksOfTests * ranks_.size() * sizeof(PeerLine));
}

cuda::Signals GpuRanks::signals(int rank, std::chrono::nanoseconds timeout, int track) const {
  return {.rank = rank,
          .num_ranks = num_ranks(),
          .lines = ranks_[rank].all_lines.data() + track * num_ranks(),
          .own_lines = reinterpret_cast<PeerLine*>(ranks_[rank].lines->data()) + track * num_ranks(),
          .failures = ranks_[rank].failures.data(),
          .own_failure = failure_word(rank),
          .word = ranks_[rank].turns.data() + track,
          .timeout_nanoseconds = static_cast<std::uint64_t>(timeout.count())};
}

void GpuRanks::set_turn(int rank, std::uint64_t turn, int track) {
  check_cuda(cudaMemcpy(ranks_[rank].turns.data() + track, &turn, sizeof(turn), cudaMemcpyHostToDevice), "cudaMemcpy");
  settle();
}

std::uint64_t GpuRanks::turn(int rank, int track) const { return ranks_[rank].turns.contents()[track]; }

std::uint64_t GpuRanks::failure(int rank) const {
  std::uint64_t failure = 0;
  check_cuda(cudaMemcpy(&failure, failure_word(rank), sizeof(failure), cudaMemcpyDeviceToHost), "cudaMemcpy");
  return failure;
}

std::uint64_t GpuRanks::entered(int rank, int peer) const {
  PeerLine line{};
  check_cuda(cudaMemcpy(&line, ranks_[rank].lines->data() + peer * sizeof(PeerLine), sizeof(line), cudaMemcpyDeviceToHost),
             "cudaMemcpy");
  return line.enter;
}

void GpuRanks::settle() const {
  for (const int device : devices_) {
    check_cuda(cudaSetDevice(device), "cudaSetDevice");
    check_cuda(cudaDeviceSynchronize(), "cudaDeviceSynchronize");
  }
}

void GpuRanks::finish() const {
  for (int rank = 0; rank < num_ranks(); ++rank) {
    select(rank);
    check_cuda(cudaStreamSynchronize(ranks_[rank].stream), "cudaStreamSynchronize");
  }
  for (int rank = 0; rank < num_ranks(); ++rank) EXPECT_EQ(failure(rank), 0) << "rank " << rank << " has failed";
}

}  // namespace tokenyard::test
