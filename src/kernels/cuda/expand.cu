// A warp per row: it is read once and written to all its places.

#include "base/cuda_error.hpp"
#include "kernels/cuda/copy_row.cuh"
#include "kernels/cuda/expand.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/warp.hpp"

namespace tokenyard::cuda {
namespace {

constexpr int kNumThreads = 1024;

// The tensor of an expert layout, all strides in bytes. Rows of a group stand `row_stride` apart.
struct Expanded {
  std::byte* data;
  std::int64_t group_rows;  // rows of a group; of 2-dimensional tensors all are one group
  std::int64_t group_stride;
  std::int64_t row_stride;
  std::int64_t element_stride;
  std::int64_t num_elements;
  int element_bytes;

  __device__ std::byte* row(std::int64_t idx) const {
    if (group_stride == 0) return data + idx * row_stride;
    return data + idx / group_rows * group_stride + idx % group_rows * row_stride;
  }
};

struct ExpandKernel {
  const std::int64_t* num_rows;
  int top_k;
  const std::int64_t* expanded_row;
  std::int64_t row_bytes;
  const std::byte* received;
  Expanded expanded;
  bool by_vectors;  // rows are dense, and all addresses and sizes multiples of 16 bytes
};

struct ZeroKernel {
  int num_local_experts;
  std::int64_t num_rows;
  const std::int64_t* expert_counts;
  const std::int64_t* expert_offsets;
  Expanded expanded;
};

template <class Unit>
__device__ void scatter_units(std::byte* target, std::int64_t stride, const std::byte* source, std::int64_t num_units,
                              int lane) {
  for (std::int64_t i = lane; i < num_units; i += 32) {
    *reinterpret_cast<Unit*>(target + i * stride) = source == nullptr ? Unit{0} : reinterpret_cast<const Unit*>(source)[i];
  }
}

// A row of which the elements may stand apart; from nowhere: zeros.
__device__ void scatter_row(const Expanded& expanded, std::int64_t row, const std::byte* source, int lane) {
  std::byte* target = expanded.row(row);
  switch (expanded.element_bytes) {
    case 1: return scatter_units<std::uint8_t>(target, expanded.element_stride, source, expanded.num_elements, lane);
    case 2: return scatter_units<std::uint16_t>(target, expanded.element_stride, source, expanded.num_elements, lane);
    case 4: return scatter_units<std::uint32_t>(target, expanded.element_stride, source, expanded.num_elements, lane);
    default: return scatter_units<std::uint64_t>(target, expanded.element_stride, source, expanded.num_elements, lane);
  }
}

__global__ void __launch_bounds__(kNumThreads, 1) expand_rows(const __grid_constant__ ExpandKernel kernel) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t warp = static_cast<std::int64_t>(threadIdx.x / 32) * gridDim.x + blockIdx.x;
  const std::int64_t num_warps = static_cast<std::int64_t>(gridDim.x) * (kNumThreads / 32);
  const std::int64_t num_rows = *kernel.num_rows;
  for (std::int64_t row = warp; row < num_rows; row += num_warps) {
    std::int64_t place = -1;  // of this lane
    if (kernel.expanded_row == nullptr) {
      if (lane == 0) place = row;
    } else if (lane < kernel.top_k) {
      place = kernel.expanded_row[row * kernel.top_k + lane];
    }
    const unsigned places = __ballot_sync(kAllLanes, place >= 0);
    const std::byte* source = kernel.received + row * kernel.row_bytes;
    if (kernel.by_vectors) {
      copy_to_all(places, place < 0 ? nullptr : kernel.expanded.row(place), source, kernel.row_bytes, lane);
      continue;
    }
    for (unsigned rest = places; rest != 0; rest &= rest - 1) {
      scatter_row(kernel.expanded, __shfl_sync(kAllLanes, place, __ffs(static_cast<int>(rest)) - 1), source, lane);
    }
  }
}

__global__ void __launch_bounds__(kNumThreads, 1) zero_rows(const __grid_constant__ ZeroKernel kernel) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = static_cast<int>(threadIdx.x / 32);
  for (int expert = static_cast<int>(blockIdx.x); expert < kernel.num_local_experts; expert += static_cast<int>(gridDim.x)) {
    const std::int64_t begin = kernel.expert_offsets[expert] + kernel.expert_counts[expert];
    // After a failure the groups need not be those that were announced.
    const std::int64_t end = min(kernel.expert_offsets[expert + 1], kernel.num_rows);
    for (std::int64_t row = begin + warp; row < end; row += kNumThreads / 32) {
      scatter_row(kernel.expanded, row, nullptr, lane);
    }
  }
}

Expanded expanded_of(const TensorView& tensor) {
  const auto element_bytes = static_cast<std::int64_t>(size_of(tensor.dtype));
  const int row_dim = tensor.num_dims - 2;
  Expanded expanded{};
  expanded.data = static_cast<std::byte*>(tensor.data);
  if (tensor.num_dims == 3) {
    expanded.group_rows = tensor.shape[1];
    expanded.group_stride = tensor.strides[0] * element_bytes;
  }
  expanded.row_stride = tensor.strides[row_dim] * element_bytes;
  expanded.element_stride = tensor.strides[row_dim + 1] * element_bytes;
  expanded.num_elements = tensor.shape[row_dim + 1];
  expanded.element_bytes = static_cast<int>(element_bytes);
  return expanded;
}

const RegisteredKernels kKernels{address_of(expand_rows), address_of(zero_rows)};

}  // namespace

void expand(const ExpandArgs& args, const Launch& launch) {
  ExpandKernel kernel{};
  kernel.num_rows = args.num_rows;
  kernel.top_k = args.top_k;
  kernel.expanded_row = args.expanded_row;
  kernel.row_bytes = static_cast<std::int64_t>(args.row_bytes);
  kernel.received = args.received;
  kernel.expanded = expanded_of(args.expanded);
  const std::uint64_t addresses = reinterpret_cast<std::uintptr_t>(args.received) |
                                  reinterpret_cast<std::uintptr_t>(kernel.expanded.data) | args.row_bytes |
                                  static_cast<std::uint64_t>(kernel.expanded.row_stride | kernel.expanded.group_stride);
  kernel.by_vectors = addresses % 16 == 0 && kernel.expanded.element_stride == kernel.expanded.element_bytes;
  expand_rows<<<launch.num_sms, kNumThreads, 0, launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "expand");
}

void zero_gaps(const ZeroGapsArgs& args, const Launch& launch) {
  const ZeroKernel kernel{.num_local_experts = args.num_local_experts,
                          .num_rows = args.expanded.shape[0],
                          .expert_counts = args.expert_counts,
                          .expert_offsets = args.expert_offsets,
                          .expanded = expanded_of(args.expanded)};
  zero_rows<<<launch.num_sms, kNumThreads, 0, launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "zero_gaps");
}

}  // namespace tokenyard::cuda
