// Eight lanes per block of 128 values, 16 of them each, as vectors that are eight apart: they are read once, and stay in
// registers until they are stored. The next block is loaded while one is computed with. Instructions are the limit.

#include <algorithm>
#include <string>

#include "base/cuda_error.hpp"
#include "kernels/cuda/float8.cuh"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/quantize.hpp"
#include "kernels/cuda/sum.cuh"
#include "kernels/cuda/warp.hpp"
#include "tokenyard/error.hpp"

namespace tokenyard::cuda {
namespace {

constexpr int kNumThreads = 1024;
constexpr int kNumLanes = 8;  // of a block
constexpr int kNumValues = static_cast<int>(kScaleBlock) / kNumLanes;
constexpr int kNumTeams = kNumThreads / kNumLanes;

// All strides in bytes.
struct Kernel {
  const std::byte* values;
  std::int64_t values_stride;
  std::byte* quantized;
  std::int64_t quantized_stride;
  std::byte* scales;
  std::int64_t scales_row_stride;
  std::int64_t scales_block_stride;
  int num_rows;
  int num_columns;
  int num_blocks;  // of a row
  // From one block of a team to its next.
  int step_rows;
  int step_blocks;
  ScaleFormat format;
  bool by_vectors;  // rows are aligned for accesses of a whole vector
};

// The block that a team is at.
struct Place {
  int row;
  int block;

  __device__ bool is_there(const Kernel& kernel) const { return row < kernel.num_rows; }

  __device__ void advance(const Kernel& kernel) {
    row += kernel.step_rows;
    block += kernel.step_blocks;
    if (block < kernel.num_blocks) return;
    block -= kernel.num_blocks;
    ++row;
  }
};

// A lane's share of a block.
template <DataType kType>
struct Share {
  static constexpr int kVectorValues = Vector<kType>::kNumElements;
  static constexpr int kNumVectors = kNumValues / kVectorValues;
  uint4 vectors[kNumVectors];

  // Of the lane's vector i, the first value's number in the block.
  __device__ static int first_of(int i, int lane) { return (i * kNumLanes + lane) * kVectorValues; }
};

__device__ __noinline__ void store_some(std::byte* address, uint2 codes, int num_values) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    if (i < num_values) address[i] = static_cast<std::byte>((i < 4 ? codes.x : codes.y) >> (i % 4 * 8));
  }
}

// Values of the row from the block's first on.
__device__ int num_values_of(const Kernel& kernel, const Place& place) {
  return min(kernel.num_columns - place.block * static_cast<int>(kScaleBlock), static_cast<int>(kScaleBlock));
}

template <DataType kType>
__device__ Share<kType> load_share(const Kernel& kernel, const Place& place, int lane) {
  Share<kType> share = {};
  if (!place.is_there(kernel)) return share;
  constexpr int kValueBytes = static_cast<int>(size_of(kType));
  const std::byte* address = kernel.values + place.row * kernel.values_stride + place.block * (kScaleBlock * kValueBytes);
  const int num_values = num_values_of(kernel, place);
  if (kernel.by_vectors && num_values == kScaleBlock) {
    const std::byte* vectors = address + Share<kType>::first_of(0, lane) * kValueBytes;
#pragma unroll
    for (int i = 0; i < Share<kType>::kNumVectors; ++i) {
      share.vectors[i] = ptx::load_row(vectors + Share<kType>::first_of(i, 0) * kValueBytes);
    }
    return share;
  }
#pragma unroll
  for (int i = 0; i < Share<kType>::kNumVectors; ++i) {
    const int first = Share<kType>::first_of(i, lane);
    if (first < num_values) share.vectors[i] = load_elements<kType>(address + first * kValueBytes, num_values - first);
  }
  return share;
}

__device__ void store_scale(const Kernel& kernel, const Place& place, float scale) {
  std::byte* address = kernel.scales + place.row * kernel.scales_row_stride + place.block * kernel.scales_block_stride;
  if (kernel.format == ScaleFormat::kUE8M0) {
    *address = static_cast<std::byte>(numeric::power_of_2_to_ue8m0(scale));
  } else {
    *reinterpret_cast<float*>(address) = scale;
  }
}

// All lanes of the warp, since they find the largest values together; of blocks that are not there nothing is stored.
template <DataType kType>
__device__ void quantize_share(const Kernel& kernel, const Place& place, const Share<kType>& share, int lane) {
  constexpr int kVectorValues = Share<kType>::kVectorValues;
  float numbers[kNumValues];
#pragma unroll
  for (int i = 0; i < Share<kType>::kNumVectors; ++i) {
    Vector<kType>::decode(share.vectors[i], numbers + i * kVectorValues);
  }
  const BlockScale scale(amax_of_block<kNumLanes>(numbers), kernel.format);
  if (!place.is_there(kernel)) return;
  if (lane == 0) store_scale(kernel, place, scale.scale);
  std::byte* address = kernel.quantized + place.row * kernel.quantized_stride + place.block * kScaleBlock;
  const int num_values = num_values_of(kernel, place);
  const bool by_vectors = kernel.by_vectors && num_values == kScaleBlock;
#pragma unroll
  for (int i = 0; i < Share<kType>::kNumVectors; ++i) {
    const int first = Share<kType>::first_of(i, lane);
    const float* vector = numbers + i * kVectorValues;
    uint2 codes = {scale.encode(vector), 0};
    if constexpr (kVectorValues == 8) codes.y = scale.encode(vector + 4);
    if (!by_vectors) {
      if (first < num_values) store_some(address + first, codes, min(num_values - first, kVectorValues));
    } else if constexpr (kVectorValues == 8) {
      *reinterpret_cast<uint2*>(address + first) = codes;
    } else {
      *reinterpret_cast<std::uint32_t*>(address + first) = codes.x;
    }
  }
}

template <DataType kType>
__global__ void __launch_bounds__(kNumThreads, 1) quantize_blocks(const __grid_constant__ Kernel kernel) {
  const int lane = static_cast<int>(threadIdx.x) % kNumLanes;
  const int team = static_cast<int>(blockIdx.x) * kNumTeams + static_cast<int>(threadIdx.x) / kNumLanes;
  Place place = {team / kernel.num_blocks, team % kernel.num_blocks};
  Share<kType> share = load_share<kType>(kernel, place, lane);
  while (__any_sync(kAllLanes, place.is_there(kernel))) {
    Place next = place;
    next.advance(kernel);
    const Share<kType> next_share = load_share<kType>(kernel, next, lane);
    quantize_share<kType>(kernel, place, share, lane);
    place = next;
    share = next_share;
  }
}

Kernel prepare(const QuantizeArgs& args) {
  Kernel kernel{};
  kernel.values = static_cast<const std::byte*>(args.values.data);
  kernel.values_stride = args.values.strides[0] * static_cast<std::int64_t>(size_of(args.values.dtype));
  kernel.quantized = static_cast<std::byte*>(args.quantized.data);
  kernel.quantized_stride = args.quantized.strides[0];
  const auto scale_bytes = static_cast<std::int64_t>(size_of(args.scales.dtype));
  kernel.scales = static_cast<std::byte*>(args.scales.data);
  kernel.scales_row_stride = args.scales.strides[0] * scale_bytes;
  kernel.scales_block_stride = args.scales.strides[1] * scale_bytes;
  kernel.num_rows = static_cast<int>(args.values.shape[0]);
  kernel.num_columns = static_cast<int>(args.values.shape[1]);
  kernel.num_blocks = static_cast<int>(args.scales.shape[1]);
  kernel.format = args.format;
  const auto values_bits = reinterpret_cast<std::uintptr_t>(kernel.values) | static_cast<std::uintptr_t>(kernel.values_stride);
  const auto quantized_bits =
      reinterpret_cast<std::uintptr_t>(kernel.quantized) | static_cast<std::uintptr_t>(kernel.quantized_stride);
  kernel.by_vectors = values_bits % 16 == 0 && quantized_bits % 8 == 0;
  return kernel;
}

template <DataType kType>
void launch_quantize(Kernel kernel, const Launch& launch) {
  const std::int64_t num_needed = (static_cast<std::int64_t>(kernel.num_rows) * kernel.num_blocks + kNumTeams - 1) / kNumTeams;
  if (num_needed == 0) return;
  const auto grid = static_cast<int>(std::min<std::int64_t>(num_needed, launch.num_sms));
  const int num_teams = grid * kNumTeams;
  kernel.step_rows = num_teams / kernel.num_blocks;
  kernel.step_blocks = num_teams % kernel.num_blocks;
  quantize_blocks<kType><<<grid, kNumThreads, 0, launch.stream>>>(kernel);
  check_cuda(cudaGetLastError(), "quantize");
}

const RegisteredKernels kKernels{address_of(quantize_blocks<DataType::kFloat16>),
                                 address_of(quantize_blocks<DataType::kBFloat16>),
                                 address_of(quantize_blocks<DataType::kFloat32>)};

}  // namespace

void quantize(const QuantizeArgs& args, const Launch& launch) {
  const Kernel kernel = prepare(args);
  switch (args.values.dtype) {
    case DataType::kFloat16: return launch_quantize<DataType::kFloat16>(kernel, launch);
    case DataType::kBFloat16: return launch_quantize<DataType::kBFloat16>(kernel, launch);
    case DataType::kFloat32: return launch_quantize<DataType::kFloat32>(kernel, launch);
    default:
      throw Error(ErrorCode::kInvalidArgument, std::string("values of type ") + to_string(args.values.dtype) +
                                                   " cannot be quantized: float16, bfloat16 and float32 can");
  }
}

}  // namespace tokenyard::cuda
