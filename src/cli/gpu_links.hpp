// What the GPUs of this host and the links between them do.
#pragma once

#include <vector>

#include "cli/record.hpp"

namespace tokenyard::cli {

struct GpuLinks {
  std::vector<Record> gpus;     // by GPU: name, copies within it, what a launch costs
  std::vector<Record> handles;  // by GPU and kind: whether ranks that are processes can share its memory so, or why not
  std::vector<Record> pairs;    // by ordered pair: whether the first reaches the second's memory, and how fast
};

// Takes some seconds and half a GiB of every visible GPU. Throws Error(kUnsupported) where this build has no CUDA, or this host
// no driver or no GPU.
GpuLinks measure_gpu_links();

}  // namespace tokenyard::cli
