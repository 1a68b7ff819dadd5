// All inline PTX of the library, except what users' kernels need as well, which is in tokenyard/device.cuh: memory accesses of
// a stated order and scope, and Hopper's bulk copies. Addresses are generic unless the name says otherwise.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tokenyard/device.cuh"

namespace tokenyard::cuda::ptx {

// --- Order and scope --------------------------------------------------------------------------------------------------------

// System scope: between GPUs, and between a GPU and the host.
using device::ptx::load_acquire_system;
using device::ptx::store_release_system;

using device::ptx::global_nanoseconds;

__device__ inline std::uint64_t load_relaxed_system(const std::uint64_t* address) {
  std::uint64_t value;
  asm volatile("ld.relaxed.sys.b64 %0, [%1];" : "=l"(value) : "l"(address));
  return value;
}

// After a fence: releases what the fence has ordered.
__device__ inline void store_relaxed_system(std::uint64_t* address, std::uint64_t value) {
  asm volatile("st.relaxed.sys.b64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
}

// Two words in one access of 16 bytes, at a multiple of 16: whoever sees one of them sees both. System scope, after a fence,
// too.
__device__ inline void store_relaxed_system(std::uint64_t* address, std::uint64_t first, std::uint64_t second) {
  asm volatile(
      "{\n"
      ".reg .b128 both;\n"
      "mov.b128 both, {%1, %2};\n"
      "st.relaxed.sys.b128 [%0], both;\n"
      "}" ::"l"(address),
      "l"(first), "l"(second)
      : "memory");
}

__device__ inline void fence_system() { asm volatile("fence.acq_rel.sys;" ::: "memory"); }

// Device scope: between the blocks of a launch.
__device__ inline void fence_device() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

__device__ inline std::uint32_t load_relaxed_device(const std::uint32_t* address) {
  std::uint32_t value;
  asm volatile("ld.relaxed.gpu.b32 %0, [%1];" : "=r"(value) : "l"(address) : "memory");
  return value;
}

// --- 16 bytes at a time -----------------------------------------------------------------------------------------------------

// Rows are read once: they need not stay in the first cache. Coherent, unlike loads through the read-only path.
__device__ inline uint4 load_row(const std::byte* address) {
  uint4 value;
  asm volatile("ld.global.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(address)
               : "memory");
  return value;
}

__device__ inline void store_row(std::byte* address, uint4 value) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(address), "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w)
               : "memory");
}

// To shared memory, without registers in between; what a thread has copied it may read when it has waited for it.
__device__ inline void async_load_row(void* shared, const std::byte* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))),
               "l"(__cvta_generic_to_global(global))
               : "memory");
}

// Ends this thread's group of asynchronous loads; groups may be empty.
__device__ inline void async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Until all but the youngest kNumPending groups of this thread have come.
template <int kNumPending>
__device__ void async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kNumPending) : "memory");
}

// Asks for what is needed soon. Into the second cache.
__device__ inline void prefetch(const std::byte* address) { asm volatile("prefetch.global.L2 [%0];" ::"l"(address)); }

// --- Pairs of 16-bit floats -------------------------------------------------------------------------------------------------

// Rounded to nearest even; NaNs become the one with all mantissa bits set. `low` goes to the lower address.
__device__ inline std::uint32_t to_bfloat16_pair(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

__device__ inline std::uint32_t to_float16_pair(float low, float high) {
  std::uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

__device__ inline float from_float16(std::uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// --- Pairs of FP8 values, from compute capability 8.9 on --------------------------------------------------------------------

#if __CUDA_ARCH__ >= 890

// Rounded to nearest even; saturates at 448, infinities too; NaNs become the positive one. `low` goes to the lower address.
__device__ inline std::uint32_t to_float8_e4m3_pair(float low, float high) {
  std::uint16_t pair;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
  return pair;
}

// As float16, which holds them all.
__device__ inline std::uint32_t from_float8_e4m3_pair(std::uint16_t pair) {
  std::uint32_t float16_pair;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(float16_pair) : "h"(pair));
  return float16_pair;
}

#endif

// --- Bulk copies, from compute capability 9.0 on ----------------------------------------------------------------------------

#if __CUDA_ARCH__ >= 900

// A barrier in shared memory that counts arrivals and the bytes of bulk loads.
using Barrier = std::uint64_t;

__device__ inline std::uint32_t shared_address(const void* address) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(address));
}

__device__ inline void barrier_init(Barrier* barrier, std::uint32_t num_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(num_arrivals) : "memory");
}

// Makes initialised barriers known to the copy engine.
__device__ inline void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// Arrives, and announces that `num_bytes` will come in this phase.
__device__ inline void barrier_arrive_expecting(Barrier* barrier, std::uint32_t num_bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(num_bytes)
               : "memory");
}

// Whether the phase of this parity is over; what its bulk loads brought is then visible. Suspends the thread for a short while.
__device__ inline bool barrier_is_past(Barrier* barrier, std::uint32_t parity) {
  std::uint32_t is_past;
  asm volatile(
      "{\n"
      ".reg .pred past;\n"
      "mbarrier.try_wait.parity.shared::cta.b64 past, [%1], %2;\n"
      "selp.u32 %0, 1, 0, past;\n"
      "}"
      : "=r"(is_past)
      : "r"(shared_address(barrier)), "r"(parity)
      : "memory");
  return is_past != 0;
}

// Addresses and sizes are multiples of 16 bytes. Of this GPU's memory or a peer's.
__device__ inline void bulk_load(void* shared, const std::byte* global, std::uint32_t num_bytes, Barrier* barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(shared_address(shared)),
      "l"(__cvta_generic_to_global(global)), "r"(num_bytes), "r"(shared_address(barrier))
      : "memory");
}

__device__ inline void bulk_store(std::byte* global, const void* shared, std::uint32_t num_bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(__cvta_generic_to_global(global)),
               "r"(shared_address(shared)), "r"(num_bytes)
               : "memory");
}

// Ends this thread's group of bulk stores; groups may be empty.
__device__ inline void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }

// Until all but the youngest kNumPending groups of this thread have read their shared memory.
template <int kNumPending>
__device__ void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kNumPending) : "memory");
}

// Until all but the youngest kNumPending groups of this thread have written: a later release makes their bytes visible.
template <int kNumPending>
__device__ void bulk_wait_written() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kNumPending) : "memory");
}

// Orders accesses of the copy engine and ordinary ones. After an acquire: before bulk loads of what it makes visible.
__device__ inline void fence_bulk() { asm volatile("fence.proxy.async;" ::: "memory"); }

#endif

}  // namespace tokenyard::cuda::ptx
