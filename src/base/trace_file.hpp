// The file of a trace: Chrome's trace-event format, a JSON array with an event per line.
//
// After every write the array is closed, and the next write goes over its end: what a killed process leaves behind can be read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_descriptor.hpp"
#include "base/trace.hpp"

namespace tokenyard {

// The file that a process writes: `pattern` with its %r, %p and %% replaced, or with the rank put before the extension.
std::string trace_path(std::string_view pattern, const TraceIdentity& identity, int process);

class TraceFile {
 public:
  // Throws Error(kSystem).
  explicit TraceFile(const std::string& path);

  // The rank `identity` appears as process `pid` of the timeline.
  void add_rank(const TraceIdentity& identity, int pid);
  // `traffic`: what a step sent, one event per peer.
  void add(const TraceEvent& event, int pid, int thread, const std::vector<TraceEvent>& traffic);
  void add_num_dropped(std::uint64_t num_dropped, int pid);

  // Writes what was added. Throws Error(kSystem).
  void flush();

 private:
  void begin_event();

  FileDescriptor file_;
  std::string text_;
  std::uint64_t num_written_ = 0;  // bytes, without the end of the array
  bool is_first_ = true;
};

}  // namespace tokenyard
