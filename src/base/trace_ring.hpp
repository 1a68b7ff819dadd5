// What a thread has recorded and the writer has not written yet: a ring with one producer and one consumer.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace tokenyard {

enum class TraceKind : std::uint8_t {
  kCall,     // from entering a call of the library to leaving it
  kStep,     // a part of a call
  kWait,     // a wait for `peer`
  kTraffic,  // rows that the step of this name sends to `peer`; recorded before the step itself
};

struct TraceEvent {
  const char* name = nullptr;  // static storage
  std::int64_t begin_ns = 0;   // of the steady clock
  std::int64_t end_ns = 0;
  std::uint64_t turn = 0;
  std::int64_t num_rows = 0;
  std::int64_t num_bytes = 0;
  std::uint32_t track = 0;
  std::int32_t peer = -1;
  std::int32_t plan = -1;
  std::uint16_t generation = 0;
  std::int8_t slot = -1;
  TraceKind kind = TraceKind::kCall;
};
static_assert(sizeof(TraceEvent) == 64);

class TraceRing {
 public:
  static constexpr std::size_t kCapacity = 16'384;

  TraceRing() : events_(kCapacity) {}

  // Producer.
  void push(const TraceEvent& event) noexcept {
    const std::uint64_t end = end_.load(std::memory_order_relaxed);
    if (end - begin_.load(std::memory_order_acquire) == kCapacity) {
      num_dropped_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    events_[end % kCapacity] = event;
    end_.store(end + 1, std::memory_order_release);  // pairs with the acquire of drain()
  }

  // The producing thread ends. Release: what it pushed before is there for whoever sees that the ring is abandoned.
  void abandon() noexcept { abandoned_.store(true, std::memory_order_release); }

  // Consumer. Calls take(event) for each event, in the order of their recording.
  template <class Take>
  void drain(Take&& take) {
    std::uint64_t begin = begin_.load(std::memory_order_relaxed);
    const std::uint64_t end = end_.load(std::memory_order_acquire);
    for (; begin != end; ++begin) take(events_[begin % kCapacity]);
    begin_.store(begin, std::memory_order_release);  // pairs with the acquire of push()
  }
  std::uint64_t take_num_dropped() noexcept { return num_dropped_.exchange(0, std::memory_order_relaxed); }
  bool is_abandoned() const noexcept { return abandoned_.load(std::memory_order_acquire); }

  // Gives an abandoned and drained ring to another thread.
  void adopt() noexcept { abandoned_.store(false, std::memory_order_relaxed); }

 private:
  std::vector<TraceEvent> events_;
  alignas(64) std::atomic<std::uint64_t> begin_{0};
  alignas(64) std::atomic<std::uint64_t> end_{0};
  std::atomic<std::uint64_t> num_dropped_{0};
  std::atomic<bool> abandoned_{false};
};

}  // namespace tokenyard
