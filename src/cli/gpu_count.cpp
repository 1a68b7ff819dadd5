#include "cli/gpu_count.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include "base/cuda_error.hpp"
#include "base/fail.hpp"

namespace tokenyard::cli {
namespace {

struct Answer {
  cudaError_t result = cudaSuccess;
  int num_gpus = 0;
};

}  // namespace

int count_gpus_apart() {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) fail_system("pipe");
  const pid_t child = fork();
  if (child < 0) fail_system("fork");
  if (child == 0) {
    Answer answer;
    answer.result = cudaGetDeviceCount(&answer.num_gpus);
    _exit(write(ends[1], &answer, sizeof(answer)) == sizeof(answer) ? 0 : 1);
  }
  close(ends[1]);
  Answer answer;
  const bool is_answered = read(ends[0], &answer, sizeof(answer)) == sizeof(answer);
  close(ends[0]);
  waitpid(child, nullptr, 0);
  if (!is_answered) fail(ErrorCode::kSystem, "the CUDA driver ended the process that counted GPUs: tokenyard doctor says more");
  check_cuda(answer.result, "cudaGetDeviceCount");
  if (answer.num_gpus == 0) check_cuda(cudaErrorNoDevice, "cudaGetDeviceCount");
  return answer.num_gpus;
}

}  // namespace tokenyard::cli
