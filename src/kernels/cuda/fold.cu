// A warp per received row.

#include "base/cuda_error.hpp"
#include "kernels/cuda/contribute.cuh"
#include "kernels/cuda/load.hpp"

namespace tokenyard::cuda {
namespace {

constexpr int kNumThreads = 512;

template <DataType kType>
__device__ void fold_rows(const FoldKernel& kernel) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t warp = static_cast<std::int64_t>(threadIdx.x / 32) * gridDim.x + blockIdx.x;
  const std::int64_t num_warps = static_cast<std::int64_t>(gridDim.x) * (kNumThreads / 32);
  const std::int64_t num_rows = kernel.source_offsets[kernel.num_ranks];
  for (std::int64_t row = warp; row < num_rows; row += num_warps) {
    fold_one<kType>(kernel, row, source_of(kernel, row), lane);
  }
}

template <DataType kType>
__global__ void __launch_bounds__(kNumThreads, 1) fold_by_threads(const __grid_constant__ FoldKernel kernel) {
  const CallTurn call_turn = load_turn(kernel.handshake);
  post_entry(kernel.handshake, call_turn);
  const bool is_well = await_entry(kernel.handshake, call_turn);
  if (is_well) fold_rows<kType>(kernel);
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

template <DataType kType>
void launch_fold(const FoldKernel& kernel, const Launch& launch) {
  fold_by_threads<kType><<<launch.num_sms, kNumThreads, 0, launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "fold");
}

const RegisteredKernels kKernels{
    address_of(fold_by_threads<DataType::kFloat16>), address_of(fold_by_threads<DataType::kBFloat16>),
    address_of(fold_by_threads<DataType::kFloat32>), address_of(fold_by_threads<DataType::kFloat64>)};

}  // namespace

void fold(const FoldArgs& args, const Launch& launch) {
  if (args.as_float8 && args.dtype == DataType::kFloat64) {
    throw Error(ErrorCode::kInvalidArgument, "rows of type float64 cannot return as float8_e4m3: make them float32");
  }
  const FoldKernel kernel = fold_kernel_of(args);
  with_sum_type(args.dtype, [&]<DataType kType>() { launch_fold<kType>(kernel, launch); });
}

}  // namespace tokenyard::cuda
