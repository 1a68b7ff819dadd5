// A block of a launch as one thread of the host, which runs the block's threads in turns as fibers: in orders drawn at random,
// and changing only where a thread waits for others or looks at memory that others write.
//
// What hardware does at its own pace is done late here, and in no order: bulk copies and asynchronous loads come when somebody
// waits for them, or at some moment before. So code that does not wait finds what was there before.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include <vector_types.h>

namespace software_gpu {

inline constexpr unsigned kWarp = 32;

struct Block;
struct Warp;

// Bytes that are on their way.
struct Copy {
  std::byte* to;
  const std::byte* from;
  std::uint32_t num_bytes;
  std::uint64_t* barrier;  // that counts them; null: none
};

struct Store {
  std::byte* to;
  const std::byte* from;
  std::uint32_t num_bytes;
  std::vector<std::byte> bytes;  // once they have been read
  bool is_read;
};

// Bulk stores and asynchronous loads of a thread, in groups, the oldest first. The last group of each is still open.
struct OnTheWay {
  std::deque<std::vector<Store>> store_groups{1};
  std::deque<std::vector<Copy>> load_groups{1};
};

struct Thread {
  uint3 idx;
  unsigned lane;
  Block* block;
  Warp* warp;

  // Of most threads there are none.
  std::unique_ptr<OnTheWay> on_the_way;

  const std::uint64_t* awaited;  // null: the thread can go on; otherwise when this is no longer `seen`
  std::uint64_t seen;
  bool has_polled;  // and may have found nothing: the others had better go on
  bool has_ended;

  boost::context::detail::fcontext_t context;
  boost::context::detail::fcontext_t scheduler;
  void* stack;
  void* fake_stack;  // of AddressSanitizer
};

// Why lanes meet: all for the same.
enum class Purpose { kSync, kShuffle, kVote, kMatch, kReduce };

// Lanes that meet: those of a mask, as often as they like.
struct Meeting {
  unsigned mask;
  Purpose purpose;
  unsigned arrived;
  std::uint64_t round;
  // Of two rounds: a lane may bring its next value before the others have read this one.
  std::uint64_t values[2][kWarp];
  unsigned present[2];
};

struct Warp {
  unsigned alive;
  std::deque<Meeting> meetings;
};

struct Block {
  uint3 idx;
  dim3 num_threads;
  dim3 num_blocks;
  std::byte* dynamic_shared;

  std::vector<Thread> threads;
  std::vector<Warp> warps;
  std::vector<Copy> bulk_loads;
  std::vector<Thread*> storing;  // threads that have something on the way

  unsigned num_alive;
  unsigned num_arrived;
  std::uint64_t round;
  bool all_true;  // of the round before, and of this one
  bool all_true_so_far;

  std::uint64_t random;
};

// The thread that runs.
Thread& self();
OnTheWay& on_the_way();  // of it
inline std::byte* dynamic_shared() { return self().block->dynamic_shared; }

// Lets others go on.
void poll();
// The same, one time in four: before something that others see.
void maybe_poll();

// Returns the values that the lanes of `mask` brought, by lane, and which were there.
struct Met {
  const std::uint64_t* values;
  unsigned present;
};
Met meet_lanes(unsigned mask, Purpose purpose, std::uint64_t value);
// All threads of the block; whether all brought true.
bool meet_block(bool value);

// Below 2^bits.
std::uint64_t draw(int bits);
std::uint64_t draw_of(Block& block, int bits);

// Ends the program, which has done what GPUs do not allow.
[[noreturn]] void die(const char* what);

// Makes a thread of the host late, one time in 16.
void maybe_be_late();

// Runs one block to its end.
void run_block(const std::function<void()>& kernel, dim3 num_blocks, dim3 num_threads, std::size_t shared_bytes, uint3 idx);

}  // namespace software_gpu
