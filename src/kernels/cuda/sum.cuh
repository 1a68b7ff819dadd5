// Sums of rows in registers: each thread owns some 16-byte vectors of a row and adds one row after the other, in the order and
// with the rounding of kernels/host/rows.hpp.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "base/numeric.hpp"
#include "kernels/cuda/ptx.cuh"
#include "tokenyard/error.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cuda {

// The 16 bytes of a vector as the numbers that are computed with. Decoding need not canonicalise NaNs: what is encoded is.
template <DataType kType>
struct Vector {
  using Number = std::conditional_t<kType == DataType::kFloat64, double, float>;
  static constexpr int kNumElements = 16 / static_cast<int>(size_of(kType));

  __device__ static void decode(const uint4& bits, Number* numbers) {
    const std::uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < kNumElements; ++i) {
      if constexpr (kType == DataType::kBFloat16) {
        numbers[i] = std::bit_cast<float>(i % 2 == 0 ? words[i / 2] << 16 : words[i / 2] & 0xffff0000U);
      } else if constexpr (kType == DataType::kFloat16) {
        numbers[i] = ptx::from_float16(static_cast<std::uint16_t>(words[i / 2] >> (i % 2 * 16)));
      } else if constexpr (kType == DataType::kFloat32) {
        numbers[i] = std::bit_cast<float>(words[i]);
      } else {
        numbers[i] = std::bit_cast<double>(words[2 * i] | (static_cast<std::uint64_t>(words[2 * i + 1]) << 32));
      }
    }
  }

  __device__ static uint4 encode(const Number* numbers) {
    std::uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if constexpr (kType == DataType::kBFloat16) {
        words[i] = ptx::to_bfloat16_pair(numbers[2 * i], numbers[2 * i + 1]);
      } else if constexpr (kType == DataType::kFloat16) {
        words[i] = ptx::to_float16_pair(numbers[2 * i], numbers[2 * i + 1]);
      } else if constexpr (kType == DataType::kFloat32) {
        words[i] = std::bit_cast<std::uint32_t>(numeric::canonical(numbers[i]));
      } else {
        words[i] = static_cast<std::uint32_t>(std::bit_cast<std::uint64_t>(numeric::canonical(numbers[i / 2])) >> (i % 2 * 32));
      }
    }
    return {words[0], words[1], words[2], words[3]};
  }
};

// A vector of a row that lies at any multiple of its elements' size, or the first `num_units` units of it: the others are 0. A
// unit is an element, of 8 bytes a half. Rare, so out of line.
template <DataType kType>
__device__ __noinline__ uint4 load_elements(const std::byte* address, int num_units = size_of(kType) == 2 ? 8 : 4) {
  using Unit = std::conditional_t<size_of(kType) == 2, std::uint16_t, std::uint32_t>;
  constexpr int kUnitsPerWord = 4 / static_cast<int>(sizeof(Unit));
  const auto* units = reinterpret_cast<const Unit*>(address);
  std::uint32_t words[4] = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < 4 * kUnitsPerWord; ++i) {
    const std::uint32_t unit = i < num_units ? units[i] : Unit{0};
    words[i / kUnitsPerWord] |= unit << (i % kUnitsPerWord * 16);
  }
  return {words[0], words[1], words[2], words[3]};
}

template <DataType kType>
__device__ __noinline__ void store_elements(std::byte* address, uint4 bits) {
  using Unit = std::conditional_t<size_of(kType) == 2, std::uint16_t, std::uint32_t>;
  constexpr int kUnitsPerWord = 4 / static_cast<int>(sizeof(Unit));
  auto* units = reinterpret_cast<Unit*>(address);
  const std::uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int i = 0; i < 4 * kUnitsPerWord; ++i) {
    units[i] = static_cast<Unit>(words[i / kUnitsPerWord] >> (i % kUnitsPerWord * 16));
  }
}

template <DataType kType>
__device__ uint4 load_anywhere(const std::byte* address, bool is_aligned) {
  return is_aligned ? ptx::load_row(address) : load_elements<kType>(address);
}

template <DataType kType>
__device__ void store_anywhere(std::byte* address, const uint4& bits, bool is_aligned) {
  if (is_aligned) return ptx::store_row(address, bits);
  store_elements<kType>(address, bits);
}

// Calls `launch.operator()<kType>()` for the type of rows that are summed, on the host.
template <class LaunchOf>
void with_sum_type(DataType dtype, LaunchOf launch) {
  switch (dtype) {
    case DataType::kFloat16: return launch.template operator()<DataType::kFloat16>();
    case DataType::kBFloat16: return launch.template operator()<DataType::kBFloat16>();
    case DataType::kFloat32: return launch.template operator()<DataType::kFloat32>();
    case DataType::kFloat64: return launch.template operator()<DataType::kFloat64>();
    default: throw Error(ErrorCode::kInvalidArgument, std::string("rows of type ") + to_string(dtype) + " cannot be summed");
  }
}

// What a warp sums at a time: kNumVectors vectors per lane, one warp's width apart.
template <DataType kType, int kNumVectors = 4>
struct WarpSum {
  using Format = Vector<kType>;
  using Number = typename Format::Number;
  static constexpr int kNumBytes = kNumVectors * 32 * 16;

  Number numbers[kNumVectors][Format::kNumElements];

  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kNumVectors; ++i) {
#pragma unroll
      for (int j = 0; j < Format::kNumElements; ++j) numbers[i][j] = 0;
    }
  }

  // Of the lane's vector i, which begins at byte offset(i, lane) of the piece.
  __device__ static int offset(int i, int lane) { return (i * 32 + lane) * 16; }

  __device__ void add(int i, const uint4& bits) {
    Number addends[Format::kNumElements];
    Format::decode(bits, addends);
#pragma unroll
    for (int j = 0; j < Format::kNumElements; ++j) numbers[i][j] += addends[j];
  }

  // The product is rounded before it is added: files that use this are compiled with -fmad=false.
  __device__ void add_scaled(int i, const uint4& bits, Number factor) {
    Number addends[Format::kNumElements];
    Format::decode(bits, addends);
#pragma unroll
    for (int j = 0; j < Format::kNumElements; ++j) {
      const Number product = addends[j] * factor;
      numbers[i][j] += product;
    }
  }
};

}  // namespace tokenyard::cuda
