// What the functions with inline PTX are here, by their names: translate.py makes them call these.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/numeric.hpp"
#include "tests/software_gpu/bulk_copies.hpp"

namespace software_gpu::ptx {

// Of accesses of 16 bytes, and of bulk copies.
inline void check_alignment(const void* address) {
  if (reinterpret_cast<std::uintptr_t>(address) % 16 != 0) __builtin_trap();
}

// --- Order and scope --------------------------------------------------------------------------------------------------------

// This host orders more than GPUs do, so only what is wrong in the program's own order shows.

template <class Word>
Word load_word(const Word* address) {
  poll();
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}

inline std::uint64_t load_acquire_system(const std::uint64_t* address) { return load_word(address); }
inline std::uint64_t load_relaxed_system(const std::uint64_t* address) { return load_word(address); }
inline std::uint32_t load_relaxed_device(const std::uint32_t* address) { return load_word(address); }

inline void store_release_system(std::uint64_t* address, std::uint64_t value) {
  maybe_poll();
  __atomic_store_n(address, value, __ATOMIC_RELEASE);
}
inline void store_relaxed_system(std::uint64_t* address, std::uint64_t value) { store_release_system(address, value); }
// Readers look at the first word before they look at the second.
inline void store_relaxed_system(std::uint64_t* address, std::uint64_t first, std::uint64_t second) {
  check_alignment(address);
  store_release_system(address + 1, second);
  store_release_system(address, first);
}

inline std::uint64_t add_system(std::uint64_t* address, std::uint64_t value) {
  return __atomic_fetch_add(address, value, __ATOMIC_SEQ_CST);
}

inline void fence_system() { __atomic_thread_fence(__ATOMIC_SEQ_CST); }
inline void fence_device() { fence_system(); }

inline std::uint64_t global_nanoseconds() {
  poll();
  return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count());
}

// --- 16 bytes at a time -----------------------------------------------------------------------------------------------------

inline uint4 load_row(const std::byte* address) {
  check_alignment(address);
  uint4 value;
  std::memcpy(&value, address, sizeof(value));
  return value;
}

inline void store_row(std::byte* address, uint4 value) {
  check_alignment(address);
  std::memcpy(address, &value, sizeof(value));
}

inline void async_load_row(void* shared, const std::byte* global) {
  check_alignment(shared);
  check_alignment(global);
  on_the_way().load_groups.back().push_back({static_cast<std::byte*>(shared), global, 16, nullptr});
}

inline void async_commit() { on_the_way().load_groups.emplace_back(); }

template <int kNumPending>
void async_wait() {
  await_loads(kNumPending);
}

inline void prefetch(const std::byte*) {}

// --- Small floats -----------------------------------------------------------------------------------------------------------

namespace numeric = tokenyard::numeric;

inline std::uint32_t to_bfloat16_pair(float low, float high) {
  return numeric::float_to_bfloat16(low) | static_cast<std::uint32_t>(numeric::float_to_bfloat16(high)) << 16;
}

inline std::uint32_t to_float16_pair(float low, float high) {
  return numeric::float_to_float16(low) | static_cast<std::uint32_t>(numeric::float_to_float16(high)) << 16;
}

inline float from_float16(std::uint16_t bits) { return numeric::float16_to_float(bits); }

inline std::uint32_t to_float8_e4m3_pair(float low, float high) {
  return numeric::float_to_float8_e4m3(low) | static_cast<std::uint32_t>(numeric::float_to_float8_e4m3(high)) << 8;
}

inline std::uint32_t from_float8_e4m3_pair(std::uint16_t pair) {
  return to_float16_pair(numeric::float8_e4m3_to_float(static_cast<std::uint8_t>(pair)),
                         numeric::float8_e4m3_to_float(static_cast<std::uint8_t>(pair >> 8)));
}

// --- Bulk copies ------------------------------------------------------------------------------------------------------------

inline void barrier_init(std::uint64_t* barrier, std::uint32_t num_arrivals) { init(barrier, num_arrivals); }
inline void barrier_init_fence() {}
inline void barrier_arrive_expecting(std::uint64_t* barrier, std::uint32_t num_bytes) { arrive(barrier, num_bytes); }

inline bool barrier_is_past(std::uint64_t* barrier, std::uint32_t parity) {
  if (is_past(barrier, parity)) return true;
  poll();
  return is_past(barrier, parity);
}

inline void check_bulk(const void* shared, const void* global, std::uint32_t num_bytes) {
  check_alignment(shared);
  check_alignment(global);
  if (num_bytes % 16 != 0) __builtin_trap();
}

inline void bulk_load(void* shared, const std::byte* global, std::uint32_t num_bytes, std::uint64_t* barrier) {
  check_bulk(shared, global, num_bytes);
  self().block->bulk_loads.push_back({static_cast<std::byte*>(shared), global, num_bytes, barrier});
}

inline void bulk_store(std::byte* global, const void* shared, std::uint32_t num_bytes) {
  check_bulk(shared, global, num_bytes);
  on_the_way().store_groups.back().push_back({global, static_cast<const std::byte*>(shared), num_bytes, {}, false});
}

inline void bulk_commit() { on_the_way().store_groups.emplace_back(); }

template <int kNumPending>
void bulk_wait_read() {
  await_stores(kNumPending, false);
}

template <int kNumPending>
void bulk_wait_written() {
  await_stores(kNumPending, true);
}

inline void fence_bulk() {}

}  // namespace software_gpu::ptx
