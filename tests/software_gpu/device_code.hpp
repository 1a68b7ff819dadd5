// What nvcc knows by itself. Included in front of every translated source.
#pragma once

// threadIdx and the like are other things here.
#define __DEVICE_LAUNCH_PARAMETERS_H__

#include <cuda_runtime.h>
#include <vector_functions.h>
#include <vector_types.h>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __grid_constant__
#undef __launch_bounds__
#undef __noinline__
#undef __restrict__

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "tests/software_gpu/block.hpp"
#include "tests/software_gpu/launch.hpp"
#include "tests/software_gpu/ptx.hpp"

#define __global__
#define __device__
#define __host__
#define __grid_constant__
#define __launch_bounds__(...)
// The threads of a block are fibers of one thread of the host.
#define __shared__ static thread_local

#define __CUDA_ARCH__ 900

#define threadIdx (::software_gpu::self().idx)
#define blockIdx (::software_gpu::self().block->idx)
#define blockDim (::software_gpu::self().block->num_threads)
#define gridDim (::software_gpu::self().block->num_blocks)

namespace software_gpu {

// kernel<<<grid, block, shared bytes, stream>>>(arguments) is Launch(grid, block, shared bytes, stream).of(kernel)(arguments).
class Launch {
 public:
  Launch(dim3 num_blocks, dim3 num_threads, std::size_t shared_bytes = 0, cudaStream_t stream = nullptr)
      : num_blocks_(num_blocks), num_threads_(num_threads), shared_bytes_(shared_bytes), stream_(stream) {}

  template <class... Parameters>
  auto of(void (*kernel)(Parameters...)) const {
    return [*this, kernel](std::type_identity_t<Parameters>... arguments) {
      launch(reinterpret_cast<const void*>(kernel), num_blocks_, num_threads_, shared_bytes_, stream_,
             [=] { kernel(arguments...); });
    };
  }

 private:
  dim3 num_blocks_;
  dim3 num_threads_;
  std::size_t shared_bytes_;
  cudaStream_t stream_;
};

template <class T>
std::uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= sizeof(std::uint64_t));
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(value));
  return bits;
}

template <class T>
T from_bits(std::uint64_t bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

template <class T>
T shuffle(unsigned mask, T value, unsigned source) {
  const Met met = meet_lanes(mask, Purpose::kShuffle, to_bits(value));
  if ((met.present >> source & 1U) == 0) __builtin_trap();  // the value of a lane that is not there
  return from_bits<T>(met.values[source]);
}

}  // namespace software_gpu

template <class A, class B>
constexpr auto min(A a, B b) {
  using Common = std::common_type_t<A, B>;
  return static_cast<Common>(a) < static_cast<Common>(b) ? static_cast<Common>(a) : static_cast<Common>(b);
}
template <class A, class B>
constexpr auto max(A a, B b) {
  using Common = std::common_type_t<A, B>;
  return static_cast<Common>(a) < static_cast<Common>(b) ? static_cast<Common>(b) : static_cast<Common>(a);
}

template <class... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, void (*kernel)(Parameters...)) {
  return cudaFuncGetAttributes(attributes, reinterpret_cast<const void*>(kernel));
}

inline void __syncthreads() { software_gpu::meet_block(true); }
inline int __syncthreads_and(int value) { return software_gpu::meet_block(value != 0) ? 1 : 0; }
inline int __syncthreads_or(int value) { return software_gpu::meet_block(value == 0) ? 0 : 1; }
inline void __syncwarp(unsigned mask = 0xffffffff) { software_gpu::meet_lanes(mask, software_gpu::Purpose::kSync, 0); }

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
  const unsigned lane = software_gpu::self().lane;
  const auto lanes = static_cast<unsigned>(width);
  return software_gpu::shuffle(mask, value, lane / lanes * lanes + static_cast<unsigned>(source) % lanes);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int distance) {
  return software_gpu::shuffle(mask, value, software_gpu::self().lane ^ static_cast<unsigned>(distance));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance) {
  const unsigned lane = software_gpu::self().lane;
  return software_gpu::shuffle(mask, value, lane < distance ? lane : lane - distance);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance) {
  const unsigned lane = software_gpu::self().lane;
  return software_gpu::shuffle(mask, value, lane + distance > 31 ? lane : lane + distance);
}
inline unsigned __ballot_sync(unsigned mask, bool value) {
  const software_gpu::Met met = software_gpu::meet_lanes(mask, software_gpu::Purpose::kVote, value);
  unsigned result = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((met.present >> lane & 1U) != 0 && met.values[lane] != 0) result |= 1U << lane;
  }
  return result;
}
inline int __any_sync(unsigned mask, bool value) { return __ballot_sync(mask, value) != 0; }
inline int __all_sync(unsigned mask, bool value) { return __ballot_sync(mask, !value) == 0; }
inline unsigned __reduce_or_sync(unsigned mask, unsigned value) {
  const software_gpu::Met met = software_gpu::meet_lanes(mask, software_gpu::Purpose::kReduce, value);
  unsigned result = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((met.present >> lane & 1U) != 0) result |= static_cast<unsigned>(met.values[lane]);
  }
  return result;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value) {
  const software_gpu::Met met = software_gpu::meet_lanes(mask, software_gpu::Purpose::kMatch, software_gpu::to_bits(value));
  unsigned result = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((met.present >> lane & 1U) != 0 && met.values[lane] == software_gpu::to_bits(value)) result |= 1U << lane;
  }
  return result;
}

inline void __threadfence() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_block() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __threadfence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void __nanosleep(unsigned) { software_gpu::poll(); }

template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value) {
  software_gpu::maybe_poll();
  return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> value) {
  software_gpu::maybe_poll();
  return __atomic_fetch_or(address, value, __ATOMIC_SEQ_CST);
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value) {
  software_gpu::maybe_poll();
  return __atomic_exchange_n(address, value, __ATOMIC_SEQ_CST);
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value) {
  T seen = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (value < seen && !__atomic_compare_exchange_n(address, &seen, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
  }
  return seen;
}
template <class T>
T atomicCAS_system(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return expected;
}

template <class T>
T __ldcg(const T* address) {
  return __atomic_load_n(address, __ATOMIC_RELAXED);
}
template <class T>
T __ldg(const T* address) {
  return *address;
}

inline std::size_t __cvta_generic_to_shared(const void* address) { return reinterpret_cast<std::size_t>(address); }

inline int __ffs(int value) { return __builtin_ffs(value); }
inline int __popc(unsigned value) { return std::popcount(value); }
inline int __clz(int value) { return std::countl_zero(static_cast<unsigned>(value)); }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
