// The recorder: who records, which file is written, and the thread that writes it.

#include "base/trace.hpp"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/fail.hpp"
#include "base/log.hpp"
#include "base/quiet_thread.hpp"
#include "base/trace_file.hpp"
#include "tokenyard/trace.hpp"

namespace tokenyard {

std::atomic<bool> trace_is_written{false};

namespace {

constexpr std::chrono::milliseconds kWriteInterval{20};
// Groups of one process are told apart in the timeline by this distance between the numbers of their ranks.
constexpr int kPidsPerGroup = 4096;

// One per process. Never destroyed: threads may record until the process is gone. A forked child makes one of its own, because
// the parent's writer does not exist there and its lock may be held for ever.
class TraceRecorder {
 public:
  explicit TraceRecorder(std::uint32_t last_track) : last_track_(last_track) {}

  void start(const std::string& pattern) {
    if (pattern.empty()) fail_argument("a trace needs the name of a file: the one given is empty");
    const std::lock_guard lock(mutex_);
    if (!pattern_.empty()) fail_argument("a trace is being written to {} already: call stop_trace() first", pattern_);
    const std::string folder = pattern.substr(0, pattern.find_last_of('/') + 1);
    if (access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) != 0) {
      fail_system(fmt::format("cannot write a trace into the folder {}", folder.empty() ? "." : folder).c_str());
    }
    pattern_ = pattern;
    if (tracks_.empty()) return;
    try {
      open_file(tracks_.begin()->second.identity);
    } catch (...) {
      end_session();
      throw;
    }
  }

  void stop() {
    std::thread writer;
    {
      const std::lock_guard lock(mutex_);
      trace_is_written.store(false, std::memory_order_relaxed);
      write();
      end_session();
      writer.swap(writer_);
    }
    woken_.notify_all();
    if (writer.joinable()) writer.join();
  }

  std::uint32_t join(const TraceIdentity& identity) {
    const std::lock_guard lock(mutex_);
    if (!has_read_environment_) {
      has_read_environment_ = true;
      const char* wanted = std::getenv("TOKENYARD_TRACE");
      if (wanted != nullptr && pattern_.empty()) pattern_ = wanted;
    }
    tracks_.emplace(++last_track_, Track{identity});
    if (!pattern_.empty() && !file_.has_value()) {
      try {
        open_file(identity);
      } catch (const Error& error) {
        give_up(error);
      }
    }
    return last_track_;
  }

  void leave(std::uint32_t track) noexcept {
    const std::lock_guard lock(mutex_);
    if (tracks_.count(track) == 0) return;  // of the process that this one was forked from
    write();
    tracks_.erase(track);
  }

  // A ring for the calling thread.
  std::shared_ptr<TraceRing> give_ring() {
    const std::lock_guard lock(mutex_);
    for (Recording& recording : recordings_) {
      if (!recording.is_vacant) continue;
      recording.is_vacant = false;
      recording.thread = gettid();
      recording.ring->adopt();
      return recording.ring;
    }
    recordings_.push_back({std::make_shared<TraceRing>(), gettid(), false, {}});
    return recordings_.back().ring;
  }

  std::uint32_t last_track() const { return last_track_; }

 private:
  struct Track {
    TraceIdentity identity;
    bool is_announced = false;  // in the present file
    int pid = 0;                // there
  };
  struct Recording {
    std::shared_ptr<TraceRing> ring;
    int thread;
    bool is_vacant;                   // its thread has ended and all that it recorded has been written
    std::vector<TraceEvent> traffic;  // whose step has not come yet
  };

  // All of the following hold the lock.

  void open_file(const TraceIdentity& identity) {
    file_.emplace(trace_path(pattern_, identity, getpid()));
    for (auto& [id, track] : tracks_) track.is_announced = false;
    num_groups_ = 0;
    num_dropped_ = 0;
    for (Recording& recording : recordings_) {
      recording.ring->drain([](const TraceEvent&) {});  // late events of an earlier trace
      recording.ring->take_num_dropped();
      recording.traffic.clear();
    }
    static const bool is_registered = std::atexit(stop_trace) == 0;
    static_cast<void>(is_registered);
    start_writer();
    trace_is_written.store(true, std::memory_order_relaxed);
  }

  void start_writer() {
    writer_ = start_quiet_thread("writes the trace", [this, session = session_] {
      std::unique_lock lock(mutex_);
      while (session == session_) {
        woken_.wait_for(lock, kWriteInterval);
        if (session == session_) write();
      }
    });
  }

  void end_session() {
    file_.reset();
    pattern_.clear();
    ++session_;
  }

  void give_up(const Error& error) noexcept {
    trace_is_written.store(false, std::memory_order_relaxed);
    end_session();
    if (writer_.joinable()) writer_.detach();  // it ends at once; who calls here may be itself
    log(LogLevel::kError, fmt::format("no trace is written: {}", error.what()));
  }

  void write() noexcept {
    if (!file_.has_value()) return;
    try {
      for (auto& [id, track] : tracks_) {
        if (!track.is_announced) announce(&track);
      }
      std::uint64_t num_newly_dropped = 0;
      for (Recording& recording : recordings_) {
        const bool is_abandoned = recording.ring->is_abandoned();
        recording.ring->drain([&](const TraceEvent& event) { add(&recording, event); });
        num_newly_dropped += recording.ring->take_num_dropped();
        recording.is_vacant = is_abandoned;
      }
      if (num_newly_dropped > 0) {
        num_dropped_ += num_newly_dropped;
        file_->add_num_dropped(num_dropped_, tracks_.empty() ? 0 : tracks_.begin()->second.pid);
      }
      file_->flush();
    } catch (const Error& error) {
      give_up(error);
    } catch (const std::exception& error) {
      give_up(Error(ErrorCode::kSystem, error.what()));
    }
  }

  void announce(Track* track) {
    const auto member = std::find_if(tracks_.begin(), tracks_.end(), [&](const auto& known) {
      return known.second.is_announced && known.second.identity.group == track->identity.group;
    });
    track->pid = member != tracks_.end() ? member->second.pid - member->second.identity.rank : kPidsPerGroup * num_groups_++;
    track->pid += track->identity.rank;
    track->is_announced = true;
    file_->add_rank(track->identity, track->pid);
  }

  void add(Recording* recording, const TraceEvent& event) {
    if (event.kind == TraceKind::kTraffic) {
      recording->traffic.push_back(event);
      return;
    }
    const auto track = tracks_.find(event.track);
    if (track == tracks_.end()) return;
    static const std::vector<TraceEvent> none;
    if (event.kind == TraceKind::kStep) {
      // Where the ring was full, steps may be missing: what they sent belongs to no other one.
      std::erase_if(recording->traffic, [&](const TraceEvent& sent) { return sent.name != event.name; });
    }
    file_->add(event, track->second.pid, recording->thread, event.kind == TraceKind::kStep ? recording->traffic : none);
    if (event.kind == TraceKind::kStep) recording->traffic.clear();
  }

  std::mutex mutex_;
  std::condition_variable woken_;
  std::string pattern_;  // empty: no trace is wanted
  std::optional<TraceFile> file_;
  std::uint64_t session_ = 0;
  std::thread writer_;
  bool has_read_environment_ = false;
  std::map<std::uint32_t, Track> tracks_;
  std::uint32_t last_track_;
  int num_groups_ = 0;  // in the present file
  std::vector<Recording> recordings_;
  std::uint64_t num_dropped_ = 0;
};

std::atomic<TraceRecorder*> recorder_of_process{nullptr};

void renew_after_fork() {
  trace_is_written.store(false, std::memory_order_relaxed);
  const TraceRecorder* parents = recorder_of_process.load(std::memory_order_relaxed);
  recorder_of_process.store(new (std::nothrow) TraceRecorder(parents->last_track()), std::memory_order_release);
}

TraceRecorder& recorder() {
  static const bool is_made = [] {
    recorder_of_process.store(new TraceRecorder(0), std::memory_order_release);
    return pthread_atfork(nullptr, nullptr, renew_after_fork) == 0;
  }();
  static_cast<void>(is_made);
  return *recorder_of_process.load(std::memory_order_acquire);
}

// The calling thread's ring. It changes with the recorder, that is in a forked child.
struct RingOfThread {
  ~RingOfThread() {
    if (ring != nullptr) ring->abandon();
  }
  std::shared_ptr<TraceRing> ring;
  TraceRecorder* owner = nullptr;
};

}  // namespace

void record_trace_event(const TraceEvent& event) noexcept {
  thread_local RingOfThread mine;
  TraceRecorder* owner = recorder_of_process.load(std::memory_order_acquire);
  if (mine.owner != owner) [[unlikely]] {
    try {
      mine.ring = owner->give_ring();
      mine.owner = owner;
    } catch (const std::exception&) {
      return;  // no memory for a timeline
    }
  }
  mine.ring->push(event);
}

TraceTrack::TraceTrack(const TraceIdentity& identity) : id_(recorder().join(identity)) {}

TraceTrack::~TraceTrack() {
  if (id_ != 0) recorder().leave(id_);
}

void start_trace(const std::string& file) { recorder().start(file); }
void stop_trace() { recorder().stop(); }

}  // namespace tokenyard
