#include "base/fail.hpp"
#include "engine/cuda/make_cuda_plan.hpp"

namespace tokenyard {

std::shared_ptr<Plan::Impl> make_cuda_plan(std::shared_ptr<Peers>, const Shape&, const PlanPlace&, const CudaPlanOptions&) {
  fail(ErrorCode::kUnsupported, "this build has no CUDA: configure it where nvcc is found (TOKENYARD_CUDA=ON insists on it)");
}

}  // namespace tokenyard
