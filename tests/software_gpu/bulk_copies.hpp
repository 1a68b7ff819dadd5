// Copies that are under way beside the threads of a block.
#pragma once

#include "tests/software_gpu/block.hpp"

namespace software_gpu {

// A barrier in shared memory that counts arrivals and bytes: what the 64 bits of an mbarrier say here.
struct ByteBarrier {
  std::uint32_t num_bytes_left;  // modulo 2^32: bytes may come before they are announced
  std::uint16_t num_arrivals_left;
  std::uint8_t num_arrivals;
  std::uint8_t phase;  // 0 or 1
};
static_assert(sizeof(ByteBarrier) == sizeof(std::uint64_t));

void init(std::uint64_t* barrier, std::uint32_t num_arrivals);
void arrive(std::uint64_t* barrier, std::uint32_t num_expected_bytes);
bool is_past(const std::uint64_t* barrier, std::uint32_t parity);

// Some of what is under way in a block comes; all of it if nothing else happens. Whether anything has.
bool advance_copies(Block& block, bool all);

// Until all but the youngest `num_pending` closed groups of the running thread have been read, or read and written.
void await_stores(std::size_t num_pending, bool written);
void await_loads(std::size_t num_pending);

// A thread ends: what it has not waited for must not depend on its shared memory.
void finish_asynchronous(Thread& thread);

}  // namespace software_gpu
