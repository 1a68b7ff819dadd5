#include "tests/software_gpu/launch.hpp"

#include <algorithm>
#include <atomic>
#include <utility>

#include "tests/software_gpu/block.hpp"
#include "tests/software_gpu/context.hpp"
#include "tests/software_gpu/device_limits.hpp"
#include "tests/software_gpu/mark.hpp"
#include "tests/software_gpu/stream.hpp"
#include "tests/software_gpu/workers.hpp"

namespace software_gpu {
namespace {

void run_grid(dim3 num_blocks, dim3 num_threads, std::size_t shared_bytes, const std::function<void()>& kernel) {
  constexpr unsigned kMaxAtOnce = 64;
  const unsigned num_all = num_blocks.x * num_blocks.y * num_blocks.z;
  const unsigned num_at_once = std::min(num_all, kMaxAtOnce);
  std::atomic<unsigned> next{0};
  std::atomic<unsigned> num_done{0};
  Mark all_done;
  for (unsigned i = 0; i < num_at_once; ++i) {
    run_apart([&, num_at_once] {  // which nobody may look at any more when all are done
      for (unsigned number; (number = next++) < num_all;) {
        const uint3 idx = {number % num_blocks.x, number / num_blocks.x % num_blocks.y, number / num_blocks.x / num_blocks.y};
        run_block(kernel, num_blocks, num_threads, shared_bytes, idx);
      }
      if (++num_done == num_at_once) all_done.set();
    });
  }
  all_done.wait();
}

}  // namespace

void launch(const void* address, dim3 num_blocks, dim3 num_threads, std::size_t shared_bytes, cudaStream_t stream,
            std::function<void()> kernel) {
  if (stream_of(stream)->device() != current_device()) {
    returned(cudaErrorInvalidResourceHandle);
    return;
  }
  const unsigned num = num_threads.x * num_threads.y * num_threads.z;
  if (num == 0 || num > kMaxThreadsOfBlock || num_blocks.x * num_blocks.y * num_blocks.z == 0 ||
      shared_bytes > max_dynamic_bytes(address)) {
    returned(cudaErrorInvalidConfiguration);
    return;
  }
  enqueue(stream, [=, kernel = std::move(kernel)] { run_grid(num_blocks, num_threads, shared_bytes, kernel); });
}

}  // namespace software_gpu
