#include "base/trace_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <iterator>
#include <limits>
#include <system_error>

#include "base/fail.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard {
namespace {

constexpr std::string_view kEndOfArray = "\n]\n";

std::string json_text(std::string_view text) {
  std::string quoted(1, '"');
  for (const char letter : text) {
    const auto code = static_cast<unsigned char>(letter);
    if (letter == '"' || letter == '\\') {
      quoted += '\\';
      quoted += letter;
    } else if (code < 0x20 || code >= 0x7f) {
      quoted += fmt::format("\\u{:04x}", code);
    } else {
      quoted += letter;
    }
  }
  quoted += '"';
  return quoted;
}

// Microseconds with three digits behind the point, as the format wants them.
std::string microseconds(std::int64_t nanoseconds) {
  return fmt::format("{}.{:03}", nanoseconds / 1000, std::max<std::int64_t>(nanoseconds % 1000, 0));
}

std::string host_name() {
  std::array<char, 256> name{};
  gethostname(name.data(), name.size() - 1);
  return name.data();
}

// Equal for processes whose steady clocks show the same time: same boot, same time namespace.
std::string clock_name() {
  std::string boot_id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot_id;
  struct stat time_namespace{};
  stat("/proc/self/ns/time", &time_namespace);
  return fmt::format("{}/{}", boot_id, time_namespace.st_ino);
}

// What must be added to the steady clock to get nanoseconds since 1970; of several looks the one that took least.
std::int64_t realtime_offset() {
  std::int64_t offset = 0;
  std::int64_t shortest = std::numeric_limits<std::int64_t>::max();
  for (int look = 0; look < 5; ++look) {
    const std::int64_t before = trace_now();
    const auto realtime =
        std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch());
    const std::int64_t after = trace_now();
    if (after - before >= shortest) continue;
    shortest = after - before;
    offset = realtime.count() - (before + (after - before) / 2);
  }
  return offset;
}

}  // namespace

std::string trace_path(std::string_view pattern, const TraceIdentity& identity, int process) {
  std::string path;
  bool is_told_apart = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char next = pattern[i] == '%' && i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (next == 'r' || next == 'p') {
      path += std::to_string(next == 'r' ? identity.lowest_rank : process);
      is_told_apart = true;
    } else {
      path += pattern[i];
    }
    if (next == 'r' || next == 'p' || next == '%') ++i;
  }
  if (is_told_apart || !identity.several_processes) return path;
  const std::size_t name = path.find_last_of('/') + 1;  // npos + 1 is 0
  std::size_t extension = path.find_last_of('.');
  if (extension == std::string::npos || extension <= name) extension = path.size();
  return fmt::format("{}.rank{}{}", path.substr(0, extension), identity.lowest_rank, path.substr(extension));
}

TraceFile::TraceFile(const std::string& path) : file_(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) {
  if (!file_) fail_system(fmt::format("cannot write the trace {}", path).c_str());
  text_.push_back('[');
}

void TraceFile::begin_event() {
  text_ += is_first_ ? "\n" : ",\n";
  is_first_ = false;
}

void TraceFile::add_rank(const TraceIdentity& identity, int pid) {
  begin_event();
  fmt::format_to(std::back_inserter(text_),
                 R"({{"name":"process_name","ph":"M","pid":{0},"tid":0,"args":{{"name":"rank {1} of {2}"}}}},)"
                 "\n"
                 R"({{"name":"process_sort_index","ph":"M","pid":{0},"tid":0,"args":{{"sort_index":{0}}}}},)"
                 "\n"
                 R"({{"name":"tokenyard_rank","ph":"M","pid":{0},"tid":0,"args":{{"version":{3},"group":"{4:016x}","rank":{1},)"
                 R"("num_ranks":{2},"host":{5},"process":{6},"clock":{7},"realtime_offset_ns":{8}}}}})",
                 pid, identity.rank, identity.num_ranks, json_text(version()), identity.group, json_text(host_name()), getpid(),
                 json_text(clock_name()), realtime_offset());
}

void TraceFile::add(const TraceEvent& event, int pid, int thread, const std::vector<TraceEvent>& traffic) {
  begin_event();
  const auto out = std::back_inserter(text_);
  const auto begin = [&](std::string_view category, std::string_view before_name) {
    fmt::format_to(out, R"({{"name":"{}{}","cat":"{}","ph":"X","ts":{},"dur":{},"pid":{},"tid":{},"args":{{)", before_name,
                   event.kind == TraceKind::kWait ? std::to_string(event.peer) : event.name, category,
                   microseconds(event.begin_ns), microseconds(event.end_ns - event.begin_ns), pid, thread);
  };
  switch (event.kind) {
    case TraceKind::kCall:
      begin("call", "");
      if (event.plan >= 0) fmt::format_to(out, R"("plan":{},"slot":{},)", event.plan, event.slot);
      fmt::format_to(out, R"("turn":{},"generation":{}}}}})", event.turn, event.generation);
      break;
    case TraceKind::kStep:
      begin("step", "");
      if (!traffic.empty()) text_ += R"("to":[)";  // [rank, rows, bytes] each
      for (const TraceEvent& sent : traffic) {
        fmt::format_to(out, "{}[{},{},{}]", &sent == traffic.data() ? "" : ",", sent.peer, sent.num_rows, sent.num_bytes);
      }
      text_ += traffic.empty() ? "}}" : "]}}";
      break;
    case TraceKind::kWait:
      begin("wait", "wait for rank ");
      fmt::format_to(out, R"("peer":{},"phase":"{}"}}}})", event.peer, event.name);
      break;
    case TraceKind::kTraffic: break;  // with its step
  }
}

void TraceFile::add_num_dropped(std::uint64_t num_dropped, int pid) {
  begin_event();
  fmt::format_to(std::back_inserter(text_),
                 R"({{"name":"dropped events","ph":"C","ts":{},"pid":{},"tid":0,"args":{{"dropped":{}}}}})",
                 microseconds(trace_now()), pid, num_dropped);
}

void TraceFile::flush() {
  const std::size_t num_bytes = text_.size();
  if (num_bytes == 0) return;
  text_ += kEndOfArray;
  for (std::size_t num_done = 0; num_done < text_.size();) {
    const ssize_t result =
        pwrite(file_.get(), text_.data() + num_done, text_.size() - num_done, static_cast<off_t>(num_written_ + num_done));
    if (result < 0 && errno == EINTR) continue;
    if (result < 0) fail_system("cannot write the trace");
    num_done += static_cast<std::size_t>(result);
  }
  num_written_ += num_bytes;
  text_.clear();
}

}  // namespace tokenyard
