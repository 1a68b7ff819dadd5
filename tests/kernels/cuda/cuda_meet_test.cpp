#include "kernels/cuda/meet.hpp"

#include "base/failure_word.hpp"
#include "tests/kernels/cuda/gpu_ranks.hpp"

namespace tokenyard::test {
namespace {

// Of three ranks the first waits for what the others have read in the turn before, when it hears of a failure. Copies that
// follow may then come where somebody still reads, so all must have heard of it.
TEST(cuda_meet, tells_all_ranks_of_a_failure_that_it_has_been_told_of) {
  SKIP_WITHOUT_GPUS(1);
  GpuRanks gpus(3, 1);
  gpus.set_turn(0, signal_word(1, 2));
  const std::uint64_t failure = pack({ErrorCode::kTimeout, Phase::kCombineRows, 2, 1});
  gpus.select(0);
  const DeviceArray<std::uint64_t> of_hosts(std::vector<std::uint64_t>{failure, failure, 0});
  const DeviceArray<std::uint64_t*> all_of_hosts(
      std::vector<std::uint64_t*>{of_hosts.data(), of_hosts.data() + 1, of_hosts.data() + 2});
  cuda::Handshake handshake;
  handshake.signals = gpus.signals(0);
  handshake.signals.host_failures = all_of_hosts.data();
  handshake.enters_behind_done = true;
  handshake.header = {.kind = CallKind::kCombine, .in_place_slot = 0, .carries_rows = true};
  handshake.entry_post = cuda::LineWord::kEnter;
  cuda::meet({.handshake = handshake, .state = gpus.state(0)}, {.stream = gpus.stream(0)});
  check_cuda(cudaStreamSynchronize(gpus.stream(0)), "cudaStreamSynchronize");
  EXPECT_EQ(gpus.failure(0), failure);
  EXPECT_EQ(of_hosts.contents()[2], failure);
}

}  // namespace
}  // namespace tokenyard::test
