// A warp per received row.

#include <algorithm>

#include "base/cuda_error.hpp"
#include "kernels/cuda/contribute.cuh"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/load.hpp"

namespace tokenyard::cuda {
namespace {

constexpr int kMaxWarps = 16;
constexpr int kNumSlots = 3;

// The rows of a warp, one of so many after the other, and of them those whose contributions are sent.
class SpacedRows : public FoldedRow {
 public:
  struct Mark {};
  static constexpr bool is_end = false;
  Mark mark{};

  __device__ SpacedRows(const FoldKernel& kernel, std::int64_t first, std::int64_t step, int lane)
      : kernel_(kernel), row_(first), step_(step), num_rows_(kernel.source_offsets[kernel.num_ranks]) {
    load_next(lane);
    advance(lane);
  }

  __device__ void advance(int lane) {
    is_there = false;
    contributors = 0;
    while (row_ < num_rows_ && !is_there) {
      const ReceivedRow received = next_;
      row_ += step_;
      load_next(lane);
      std::byte* window = kernel_.windows[received.source];
      if (window != nullptr && begin_row(kernel_, received, window, lane)) enter(kernel_, received, window);
    }
  }

  __device__ void end(Mark, int) {}

 private:
  __device__ void load_next(int lane) {
    if (row_ < num_rows_) next_ = load_received(kernel_, row_, source_of(kernel_, row_), lane);
  }

  const FoldKernel& kernel_;
  std::int64_t row_;
  std::int64_t step_;
  std::int64_t num_rows_;
  ReceivedRow next_;
};

template <DataType kType, bool kInBulk>
__global__ void __launch_bounds__(kMaxWarps* kWarp, 1) fold_rows(const __grid_constant__ FoldKernel kernel) {
  extern __shared__ __align__(128) std::byte rings[];
  using Sums = RowSums<kType, SpacedRows>;
  __shared__ typename Sums::Slot slots[kMaxWarps][kNumSlots];
  const CallTurn call_turn = load_turn(kernel.handshake);
  post_entry(kernel.handshake, call_turn);
  const bool is_well = await_entry(kernel.handshake, call_turn);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const std::int64_t first = static_cast<std::int64_t>(warp) * gridDim.x + blockIdx.x;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * (blockDim.x / kWarp);
  if (is_well && is_copied(kernel)) {
    const std::int64_t num_rows = kernel.source_offsets[kernel.num_ranks];
    for (std::int64_t row = first; row < num_rows; row += step) copy_home<kType>(kernel, row, source_of(kernel, row), lane);
  } else if (is_well) {
    RingOf<kType, kNumSlots, kInBulk> ring(rings + warp * ring_bytes(kNumSlots), kernel.rows_are_aligned, lane);
    SpacedRows rows(kernel, first, step, lane);
    Sums sums(kernel, &rows);
    stream_sums<kType>(ring, sums, slots[warp], lane);
  }
  leave_kernel(kernel.handshake, call_turn, is_well, kernel.state);
}

template <DataType kType>
void launch_fold(const FoldKernel& kernel, const Launch& launch) {
  constexpr int kStaticBytes = 4096;  // room for what the kernel keeps besides
  const int num_warps = std::clamp((current_device().max_shared_bytes - kStaticBytes) / ring_bytes(kNumSlots), 1, kMaxWarps);
  const auto fold = loads_in_bulk(kernel, launch) ? fold_rows<kType, true> : fold_rows<kType, false>;
  fold<<<launch.num_sms, num_warps * kWarp, num_warps * ring_bytes(kNumSlots), launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "fold");
}

template <DataType kType>
RegisteredKernels registered() {
  return {address_of(fold_rows<kType, true>), address_of(fold_rows<kType, false>)};
}

const RegisteredKernels kKernels[] = {registered<DataType::kFloat16>(), registered<DataType::kBFloat16>(),
                                      registered<DataType::kFloat32>(), registered<DataType::kFloat64>()};

}  // namespace

void fold(const FoldArgs& args, const Launch& launch) {
  if (args.as_float8 && args.dtype == DataType::kFloat64) {
    throw Error(ErrorCode::kInvalidArgument, "rows of type float64 cannot return as float8_e4m3: make them float32");
  }
  const FoldKernel kernel = fold_kernel_of(args);
  with_sum_type(args.dtype, [&]<DataType kType>() { launch_fold<kType>(kernel, launch); });
}

}  // namespace tokenyard::cuda
