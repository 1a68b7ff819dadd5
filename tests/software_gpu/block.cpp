#include "tests/software_gpu/block.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <thread>

#include "tests/software_gpu/address_sanitizer.hpp"
#include "tests/software_gpu/bulk_copies.hpp"
#include "tests/support/number_in_environment.hpp"

namespace software_gpu {
namespace {

namespace context = boost::context::detail;

constexpr std::size_t kStackBytes = std::size_t{256} << 10;
constexpr std::size_t kOutermostBytes = 4096;

thread_local Thread* running = nullptr;

// Stacks that this thread of the host has used, for the next block.
struct Stacks {
  std::vector<void*> free;

  void* take() {
    if (free.empty()) {
      void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) die("no memory for stacks");
      return memory;
    }
    void* stack = free.back();
    free.pop_back();
    // The outermost function has never returned there.
    ASAN_UNPOISON_MEMORY_REGION(static_cast<std::byte*>(stack) + kStackBytes - kOutermostBytes, kOutermostBytes);
    return stack;
  }
};
thread_local Stacks stacks;

#if defined(__SANITIZE_ADDRESS__)
thread_local void* scheduler_fake_stack = nullptr;
thread_local const void* scheduler_stack = nullptr;
thread_local std::size_t scheduler_stack_bytes = 0;

void leave_for_thread(Thread& thread) { __sanitizer_start_switch_fiber(&scheduler_fake_stack, thread.stack, kStackBytes); }
void come_back_to_scheduler() { __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr); }
void leave_for_scheduler(Thread& thread) {
  __sanitizer_start_switch_fiber(thread.has_ended ? nullptr : &thread.fake_stack, scheduler_stack, scheduler_stack_bytes);
}
void come_back_to_thread(Thread& thread) {
  __sanitizer_finish_switch_fiber(thread.fake_stack, &scheduler_stack, &scheduler_stack_bytes);
}
#else
void leave_for_thread(Thread&) {}
void come_back_to_scheduler() {}
void leave_for_scheduler(Thread&) {}
void come_back_to_thread(Thread&) {}
#endif

void switch_to_scheduler(Thread& thread) {
  leave_for_scheduler(thread);
  thread.scheduler = context::jump_fcontext(thread.scheduler, nullptr).fctx;
  come_back_to_thread(thread);
}

void wait_until_changed(const std::uint64_t* round, std::uint64_t seen) {
  Thread& thread = self();
  thread.awaited = round;
  thread.seen = seen;
  switch_to_scheduler(thread);
}

void end_round(Block& block) {
  block.num_arrived = 0;
  block.all_true = block.all_true_so_far;
  block.all_true_so_far = true;
  ++block.round;
}

void end_round(Meeting& meeting) {
  meeting.present[meeting.round % 2] = meeting.arrived;
  meeting.arrived = 0;
  ++meeting.round;
}

// Who has ended is not waited for.
void end_thread(Thread& thread) {
  finish_asynchronous(thread);
  thread.has_ended = true;
  Block& block = *thread.block;
  Warp& warp = *thread.warp;
  warp.alive &= ~(1U << thread.lane);
  for (Meeting& meeting : warp.meetings) {
    if (meeting.arrived != 0 && meeting.arrived == (meeting.mask & warp.alive)) end_round(meeting);
  }
  --block.num_alive;
  if (block.num_arrived != 0 && block.num_arrived == block.num_alive) end_round(block);
}

thread_local const std::function<void()>* running_kernel = nullptr;

void begin_thread(context::transfer_t from) {
  auto& thread = *static_cast<Thread*>(from.data);
  thread.scheduler = from.fctx;
  come_back_to_thread(thread);
  (*running_kernel)();
  end_thread(thread);
  switch_to_scheduler(thread);
}

void resume(Thread& thread) {
  thread.awaited = nullptr;
  thread.has_polled = false;
  running = &thread;
  leave_for_thread(thread);
  thread.context = context::jump_fcontext(thread.context, &thread).fctx;
  come_back_to_scheduler();
  running = nullptr;
}

bool can_go_on(const Thread& thread) {
  return !thread.has_ended && (thread.awaited == nullptr || *thread.awaited != thread.seen);
}

std::uint64_t next_seed() {
  static const auto seed = static_cast<std::uint64_t>(tokenyard::test::number_in_environment("TOKENYARD_SOFTWARE_SEED", 1));
  static std::atomic<std::uint64_t> number{0};
  return (seed * 0x9e3779b97f4a7c15ULL + ++number) * 0xbf58476d1ce4e5b9ULL | 1;
}

std::uint64_t bits_of(std::uint64_t random, int bits) { return random >> 11 & ((std::uint64_t{1} << bits) - 1); }

// All threads once, from a random one on, in steps that reach each of them. Whether anything has happened.
bool run_round(Block& block) {
  const std::size_t num_threads = block.threads.size();
  std::size_t step = 1 + draw_of(block, 6);
  while (std::gcd(step, num_threads) != 1) ++step;
  std::size_t i = draw_of(block, 16) % num_threads;
  bool has_happened = false;
  bool can_any_go_on = false;
  for (std::size_t k = 0; k < num_threads; ++k, i = (i + step) % num_threads) {
    Thread& thread = block.threads[i];
    if (!can_go_on(thread)) continue;
    can_any_go_on = true;
    resume(thread);
    has_happened |= !thread.has_polled;
  }
  if (!can_any_go_on && block.num_alive > 0) die("all threads of a block wait for others that do not come");
  return has_happened;
}

}  // namespace

void die(const char* what) {
  std::fprintf(stderr, "software GPU: %s\n", what);
  std::abort();
}

std::uint64_t draw_of(Block& block, int bits) {
  block.random ^= block.random << 13;
  block.random ^= block.random >> 7;
  block.random ^= block.random << 17;
  return bits_of(block.random, bits);
}

Thread& self() { return *running; }

OnTheWay& on_the_way() {
  Thread& thread = self();
  if (thread.on_the_way == nullptr) {
    thread.on_the_way = std::make_unique<OnTheWay>();
    thread.block->storing.push_back(&thread);
  }
  return *thread.on_the_way;
}

std::uint64_t draw(int bits) { return draw_of(*self().block, bits); }

void maybe_be_late() {
  const std::uint64_t random = next_seed() * 0x94d049bb133111ebULL;
  if (bits_of(random, 4) == 0) std::this_thread::sleep_for(std::chrono::microseconds(bits_of(random >> 4, 9)));
}

void poll() {
  Thread& thread = self();
  thread.has_polled = true;
  switch_to_scheduler(thread);
}

void maybe_poll() {
  if (draw(2) == 0) poll();
}

Met meet_lanes(unsigned mask, Purpose purpose, std::uint64_t value) {
  Thread& thread = self();
  Warp& warp = *thread.warp;
  if ((mask >> thread.lane & 1U) == 0) die("a lane meets others that do not expect it");
  Meeting* meeting = nullptr;
  for (Meeting& known : warp.meetings) {
    if (known.mask == mask) meeting = &known;
  }
  if (meeting == nullptr) {
    meeting = &warp.meetings.emplace_back();
    meeting->mask = mask;
  }
  if (meeting->arrived == 0) meeting->purpose = purpose;
  if (meeting->purpose != purpose) die("lanes of a warp meet at different places");
  const std::uint64_t round = meeting->round;
  meeting->values[round % 2][thread.lane] = value;
  meeting->arrived |= 1U << thread.lane;
  if (meeting->arrived == (mask & warp.alive)) {
    end_round(*meeting);
  } else {
    wait_until_changed(&meeting->round, round);
  }
  return {meeting->values[round % 2], meeting->present[round % 2]};
}

bool meet_block(bool value) {
  Block& block = *self().block;
  block.all_true_so_far &= value;
  if (++block.num_arrived == block.num_alive) {
    end_round(block);
  } else {
    wait_until_changed(&block.round, block.round);
  }
  return block.all_true;
}

void run_block(const std::function<void()>& kernel, dim3 num_blocks, dim3 num_threads, std::size_t shared_bytes, uint3 idx) {
  constexpr std::size_t kSharedAlignment = 1024;
  constexpr int kPoison = 0xa5;
  const unsigned num = num_threads.x * num_threads.y * num_threads.z;
  Block block{};
  block.idx = idx;
  block.num_threads = num_threads;
  block.num_blocks = num_blocks;
  block.num_alive = num;
  block.all_true_so_far = true;
  block.random = next_seed();
  void* memory = nullptr;  // of just this size, for sanitizers to see who goes beyond
  if (posix_memalign(&memory, kSharedAlignment, std::max<std::size_t>(shared_bytes, 1)) != 0) die("no shared memory");
  const std::unique_ptr<void, decltype(&std::free)> shared(memory, &std::free);
  std::memset(memory, kPoison, shared_bytes);
  block.dynamic_shared = static_cast<std::byte*>(memory);
  block.warps.resize((num + kWarp - 1) / kWarp);
  block.threads.resize(num);
  running_kernel = &kernel;
  for (unsigned i = 0; i < num; ++i) {
    Thread& thread = block.threads[i];
    thread.idx = {i % num_threads.x, i / num_threads.x % num_threads.y, i / num_threads.x / num_threads.y};
    thread.lane = i % kWarp;
    thread.block = &block;
    thread.warp = &block.warps[i / kWarp];
    thread.warp->alive |= 1U << thread.lane;
    thread.stack = stacks.take();
    thread.context = context::make_fcontext(static_cast<std::byte*>(thread.stack) + kStackBytes, kStackBytes, begin_thread);
  }
  maybe_be_late();
  constexpr int kNumYields = 20;  // before it sleeps
  constexpr auto kNap = std::chrono::microseconds(20);
  int num_idle = 0;
  while (block.num_alive > 0) {
    const bool has_happened = run_round(block);
    if (advance_copies(block, num_idle > 0) || has_happened) {
      num_idle = 0;
    } else if (++num_idle < kNumYields) {
      std::this_thread::yield();
    } else {
      std::this_thread::sleep_for(kNap);
    }
  }
  if (!block.bulk_loads.empty()) die("a block ends while something is being loaded to its shared memory");
  for (Thread& thread : block.threads) stacks.free.push_back(thread.stack);
}

}  // namespace software_gpu
