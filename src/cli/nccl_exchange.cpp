#include "cli/nccl_exchange.hpp"

#include <algorithm>
#include <vector>

#include "base/cuda_error.hpp"
#include "base/fail.hpp"
#include "cli/gather.hpp"
#include "cli/gpu_memory.hpp"
#include "cli/nccl_library.hpp"
#include "cli/random_bits.hpp"

namespace tokenyard::cli {
namespace {

class Communicator {
 public:
  Communicator(const NcclLibrary& nccl, GpuStage& stage) : nccl_(nccl) {
    std::vector<NcclUniqueId> own(1);
    if (stage.rank() == 0) nccl.check(nccl.get_unique_id(own.data()), "ncclGetUniqueId");
    const auto ids = gather(stage.exchange(), own, stage.group().timeout());
    nccl.check(nccl.init_rank(&communicator_, stage.group().num_ranks(), ids[0][0], stage.rank()), "ncclCommInitRank");
  }
  ~Communicator() { nccl_.destroy(communicator_); }
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  NcclCommunicator* get() const { return communicator_; }

 private:
  const NcclLibrary& nccl_;
  NcclCommunicator* communicator_ = nullptr;
};

// One byte says it all: whose rows, and for whom.
int fill_of(int source, int destination) { return static_cast<int>(hash_bits(7, source, destination) & 0x7f); }

}  // namespace

void find_nccl(int num_ranks, int num_gpus) {
  nccl_library();
  if (num_ranks > num_gpus) {
    fail(ErrorCode::kUnsupported,
         "--against nccl: NCCL needs a GPU for each rank, and here are {} ranks and {} GPUs: pass --ranks {}", num_ranks,
         num_gpus, num_gpus);
  }
}

GpuMeasurement measure_nccl(const BenchSetup& setup, GpuStage& stage) {
  const NcclLibrary& nccl = nccl_library();
  const Communicator communicator(nccl, stage);
  const auto row_bytes = static_cast<std::size_t>(setup.dispatch_row_bytes);
  const auto rows_between = [&](int source, int destination) {
    return static_cast<std::size_t>(setup.expected[static_cast<std::size_t>(destination)].rows_from(source));
  };
  std::vector<std::size_t> sent;
  std::vector<std::size_t> received;
  std::size_t sent_rows = 0;
  std::size_t received_rows = 0;
  for (int peer = 0; peer < setup.num_ranks; ++peer) {
    sent_rows += sent.emplace_back(rows_between(stage.rank(), peer));
    received_rows += received.emplace_back(rows_between(peer, stage.rank()));
  }
  const GpuMemory source(sent_rows * row_bytes);
  const GpuMemory target(received_rows * row_bytes);
  std::size_t done = 0;
  for (int peer = 0; peer < setup.num_ranks; ++peer) {
    const std::size_t num_bytes = sent[static_cast<std::size_t>(peer)] * row_bytes;
    check_cuda(cudaMemsetAsync(source.data() + done, fill_of(stage.rank(), peer), num_bytes, stage.stream()),
               "cudaMemsetAsync");
    done += num_bytes;
  }
  stage.settle();

  const auto exchange = [&] {
    nccl.check(nccl.group_start(), "ncclGroupStart");
    std::size_t sent_bytes = 0;
    std::size_t received_bytes = 0;
    for (int peer = 0; peer < setup.num_ranks; ++peer) {
      const std::size_t to_peer = sent[static_cast<std::size_t>(peer)] * row_bytes;
      const std::size_t from_peer = received[static_cast<std::size_t>(peer)] * row_bytes;
      nccl.check(nccl.send(source.data() + sent_bytes, to_peer, kNcclUint8, peer, communicator.get(), stage.stream()),
                 "ncclSend");
      nccl.check(nccl.receive(target.data() + received_bytes, from_peer, kNcclUint8, peer, communicator.get(), stage.stream()),
                 "ncclRecv");
      sent_bytes += to_peer;
      received_bytes += from_peer;
    }
    nccl.check(nccl.group_end(), "ncclGroupEnd");
  };
  // NCCL connects ranks at their first exchange, which waits for the others.
  exchange();
  stage.settle();

  GpuMeasurement measurement;
  for (int i = 0; i < setup.num_warmups + setup.num_iterations; ++i) {
    const bool is_warmup = i < setup.num_warmups;
    const double microseconds = stage.time_in_stream(setup.cold_caches, is_warmup, exchange);
    if (!is_warmup) measurement.microseconds.push_back(microseconds);
  }
  stage.settle();
  if (setup.options.check) {
    const std::vector<std::byte> rows = copy_from_gpu(target.data(), target.num_bytes(), stage.stream());
    auto row = rows.begin();
    for (int peer = 0; peer < setup.num_ranks; ++peer) {
      const auto wanted = static_cast<std::byte>(fill_of(peer, stage.rank()));
      for (std::size_t i = 0; i < received[static_cast<std::size_t>(peer)]; ++i) {
        const auto end = row + static_cast<std::ptrdiff_t>(row_bytes);
        measurement.wrong_rows += std::all_of(row, end, [wanted](std::byte byte) { return byte == wanted; }) ? 0 : 1;
        row = end;
      }
    }
    measurement.checked_rows = static_cast<std::int64_t>(received_rows);
  }
  return measurement;
}

}  // namespace tokenyard::cli
