// How the library records its timeline. While no trace is written, each of these costs one relaxed load and a branch.
//
// Spans are recorded when they end, by the thread that ran them. Names are string literals.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <utility>

#include "base/trace_ring.hpp"

namespace tokenyard {

// A rank of a group, as the timeline tells them apart.
struct TraceIdentity {
  std::uint64_t group = 0;  // equal on all ranks of the group, different for every group
  int rank = 0;
  int num_ranks = 1;
  int lowest_rank = 0;  // of those that are threads of this process
  bool several_processes = false;
};

// A rank's place in the timeline as long as its group lives. The last events are in the file when it goes.
class TraceTrack {
 public:
  TraceTrack() = default;  // of nobody: nothing is recorded
  explicit TraceTrack(const TraceIdentity& identity);
  ~TraceTrack();
  TraceTrack(TraceTrack&& other) noexcept : id_(std::exchange(other.id_, 0)) {}
  TraceTrack& operator=(TraceTrack&&) = delete;

  std::uint32_t id() const noexcept { return id_; }

 private:
  std::uint32_t id_ = 0;
};

extern std::atomic<bool> trace_is_written;
void record_trace_event(const TraceEvent& event) noexcept;

inline std::int64_t trace_now() noexcept {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

inline bool is_traced(const TraceTrack& track) noexcept {
  return trace_is_written.load(std::memory_order_relaxed) && track.id() != 0;
}

// A wait for `peer`, from here to the end of the scope.
class WaitTrace {
 public:
  WaitTrace(const TraceTrack& track, const char* phase, int peer) {
    if (!is_traced(track)) [[likely]]
      return;
    event_ = {.name = phase, .begin_ns = trace_now(), .track = track.id(), .peer = peer, .kind = TraceKind::kWait};
  }
  ~WaitTrace() {
    if (event_.track == 0) [[likely]]
      return;
    event_.end_ns = trace_now();
    record_trace_event(event_);
  }
  WaitTrace(const WaitTrace&) = delete;
  WaitTrace& operator=(const WaitTrace&) = delete;

 private:
  TraceEvent event_{};
};

// A call of the library and its steps, from here to the end of the scope.
class CallTrace {
 public:
  CallTrace(const TraceTrack& track, const char* name) {
    if (!is_traced(track)) [[likely]]
      return;
    call_ = {.name = name, .begin_ns = trace_now(), .track = track.id(), .kind = TraceKind::kCall};
  }
  ~CallTrace() {
    if (call_.track == 0) [[likely]]
      return;
    call_.end_ns = trace_now();
    end_step(call_.end_ns);
    record_trace_event(call_);
  }
  CallTrace(const CallTrace&) = delete;
  CallTrace& operator=(const CallTrace&) = delete;

  bool is_on() const noexcept { return call_.track != 0; }

  // Which turn this is; ranks that make the same call say the same.
  void turn(int plan, int slot, std::uint64_t number, std::uint16_t generation) noexcept {
    call_.plan = plan;
    call_.slot = static_cast<std::int8_t>(slot);
    call_.turn = number;
    call_.generation = generation;
  }

  // Ends the step before it and begins the next.
  void step(const char* name) noexcept {
    if (!is_on()) [[likely]]
      return;
    const std::int64_t now = trace_now();
    end_step(now);
    step_ = {.name = name, .begin_ns = now, .track = call_.track, .kind = TraceKind::kStep};
  }

  // What the present step sends to `peer`.
  void traffic(int peer, std::int64_t num_rows, std::int64_t num_bytes) noexcept {
    if (!is_on() || step_.name == nullptr || num_rows == 0) return;
    record_trace_event({.name = step_.name,
                        .num_rows = num_rows,
                        .num_bytes = num_bytes,
                        .track = call_.track,
                        .peer = peer,
                        .kind = TraceKind::kTraffic});
  }

 private:
  void end_step(std::int64_t now) noexcept {
    if (step_.name == nullptr) return;
    step_.end_ns = now;
    record_trace_event(step_);
  }

  TraceEvent call_{};
  TraceEvent step_{};
};

}  // namespace tokenyard
