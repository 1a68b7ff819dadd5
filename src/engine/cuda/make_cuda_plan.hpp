// Where a group gets plans on GPUs from; throws Error(kUnsupported) in a build without CUDA.
#pragma once

#include <memory>

#include "engine/plan_impl.hpp"

namespace tokenyard {

struct CudaPlanOptions {
  int num_sms = 0;            // that a call may occupy; 0: chosen
  int num_ranks_on_gpu = 1;   // of the group on this rank's GPU: kernels of all of them must fit there at the same time
  bool copy_engines = false;  // calls of some rank may ask for Copies::kEngine: the same on all ranks
};

// Collective within the domain, which must be the whole group; windows lie at peers->device_place().
std::shared_ptr<Plan::Impl> make_cuda_plan(std::shared_ptr<Peers> peers, const Shape& shape, const PlanPlace& place,
                                           const CudaPlanOptions& options);

}  // namespace tokenyard
