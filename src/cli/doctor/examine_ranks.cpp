// Where the ranks are, what their clocks say and how fast each is.
#include <fmt/core.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "cli/doctor/clock_offsets.hpp"
#include "cli/doctor/cores.hpp"
#include "cli/doctor/exam_room.hpp"
#include "cli/doctor/number_ranges.hpp"
#include "cli/doctor/system_files.hpp"
#include "cli/gather.hpp"
#include "cli/statistics.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

constexpr int kNumBarriers = 10;
constexpr std::int64_t kClockTolerance = 50'000'000;  // nanoseconds; log lines of two ranks can be put in order below it
constexpr std::size_t kPaceBytes = std::size_t{16} << 20;
constexpr int kNumPaces = 6;
constexpr double kSlow = 3;  // times the median rank: beyond what sharing a memory bus explains

// Sent as it lies in memory.
struct Introduction {
  std::array<char, 64> host{};
  std::array<char, 40> boot{};  // equal for ranks of one machine, whatever their containers call it
  std::array<char, 16> version{};
  pid_t process = 0;
  int num_host_cores = 0;
  cpu_set_t cores;
};

template <std::size_t kNumBytes>
void copy_text(std::array<char, kNumBytes>& target, const std::string& text) {
  std::memcpy(target.data(), text.data(), std::min(text.size(), kNumBytes - 1));
}

Introduction introduce() {
  Introduction mine;
  gethostname(mine.host.data(), mine.host.size() - 1);
  copy_text(mine.boot, read_line("/proc/sys/kernel/random/boot_id"));
  copy_text(mine.version, version());
  mine.process = getpid();
  mine.num_host_cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  CPU_ZERO(&mine.cores);
  sched_getaffinity(0, sizeof(mine.cores), &mine.cores);
  return mine;
}

struct Host {
  std::string name;
  std::vector<int> ranks;
  int num_cores = 0;
  cpu_set_t cores;  // that any of its ranks may use
};

// By the lowest rank.
std::vector<Host> list_hosts(const std::vector<std::vector<Introduction>>& introductions) {
  std::vector<Host> hosts;
  std::map<std::string, std::size_t> place_of_boot;
  for (std::size_t rank = 0; rank < introductions.size(); ++rank) {
    const Introduction& other = introductions[rank].at(0);
    const auto [place, is_new] = place_of_boot.try_emplace(other.boot.data(), hosts.size());
    if (is_new)
      hosts.push_back({.name = other.host.data(), .ranks = {}, .num_cores = other.num_host_cores, .cores = other.cores});
    Host& host = hosts[place->second];
    host.ranks.push_back(static_cast<int>(rank));
    CPU_OR(&host.cores, &host.cores, &other.cores);
  }
  return hosts;
}

std::vector<int> numbers_of(const cpu_set_t& cores) {
  std::vector<int> numbers;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(static_cast<std::size_t>(core), &cores)) numbers.push_back(core);
  }
  return numbers;
}

std::string plural(std::size_t number, const char* noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

std::int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

double milliseconds(std::int64_t nanoseconds) { return static_cast<double>(nanoseconds) / 1e6; }

}  // namespace

void examine_hosts(ExamRoom& room, SectionFindings& findings) {
  const auto introductions = gather(*room.exchange, std::vector{introduce()}, room.timeout);
  std::vector<int> others;
  for (std::size_t rank = 0; rank < introductions.size(); ++rank) {
    const Introduction& other = introductions[rank].at(0);
    room.processes[rank] = {.host = other.host.data(), .process = other.process};
    if (other.version != introductions[0].at(0).version) others.push_back(static_cast<int>(rank));
  }
  if (!others.empty()) {
    findings.warning("versions", fmt::format("ranks {} do not run Tokenyard {}", to_ranges(others), version()),
                     "they agree on the wire format, and on nothing else", "install one release on all hosts");
  }

  const std::vector<Host> hosts = list_hosts(introductions);
  room.num_hosts = static_cast<int>(hosts.size());
  std::string value = plural(introductions.size(), "rank") + " on " + plural(hosts.size(), "host") + ": ";
  for (std::size_t i = 0; i < hosts.size() && i < 4; ++i) {
    value += fmt::format("{}{} ({})", i == 0 ? "" : ", ", hosts[i].name, to_ranges(hosts[i].ranks));
  }
  if (hosts.size() > 4) value += fmt::format(" and {} more", hosts.size() - 4);
  findings.ok("hosts", value);
  if (!room.by_launcher) return;
  // Each rank may be bound to cores of its own. One line for all hosts that are well, one for each that is not.
  SectionFindings well(Section::kRanks);
  for (const Host& host : hosts) {
    SectionFindings judged(Section::kRanks);
    judge_cores(judged, hosts.size() == 1 ? "cores together" : "cores of " + host.name,
                {.num_ranks = static_cast<int>(host.ranks.size()),
                 .num_host_cores = host.num_cores,
                 .allowed_cores = numbers_of(host.cores)});
    for (Finding& line : judged.take()) {
      if (line.verdict == Verdict::kWarning) {
        findings.warning(line.name, line.value, line.why, line.cure);
      } else if (hosts.size() == 1) {
        findings.ok(line.name, line.value, line.why);
      }
    }
  }
}

void examine_clocks(ExamRoom& room, SectionFindings& findings) {
  if (room.num_ranks() == 1) return;
  BarrierTimes mine;
  for (int barrier = 0; barrier < kNumBarriers; ++barrier) {
    mine.entered.push_back(now());
    room.exchange->barrier(room.timeout);
    mine.left.push_back(now());
  }
  const auto entered = gather(*room.exchange, mine.entered, room.timeout);
  const auto left = gather(*room.exchange, mine.left, room.timeout);
  std::vector<BarrierTimes> times;
  for (std::size_t rank = 0; rank < entered.size(); ++rank) times.push_back({.entered = entered[rank], .left = left[rank]});
  const std::vector<ClockOffset> offsets = clock_offsets(times);

  std::vector<int> wrong;
  std::int64_t widest = 0;
  std::int64_t uncertainty = 0;
  for (std::size_t rank = 0; rank < offsets.size(); ++rank) {
    const std::int64_t distance = std::abs(offsets[rank].nanoseconds);
    widest = std::max(widest, distance);
    uncertainty = std::max(uncertainty, offsets[rank].uncertainty);
    if (distance - offsets[rank].uncertainty > kClockTolerance) wrong.push_back(static_cast<int>(rank));
  }
  if (wrong.empty()) {
    findings.ok("clocks",
                fmt::format("{} of rank 0's", widest <= uncertainty
                                                  ? fmt::format("within {:.2f} ms", milliseconds(widest + uncertainty))
                                                  : fmt::format("up to {:.2f} ms (± {:.2f}) from those", milliseconds(widest),
                                                                milliseconds(uncertainty))));
  } else {
    findings.warning("clocks", fmt::format("rank {}: up to {:.0f} ms from rank 0's", to_ranges(wrong), milliseconds(widest)),
                     "lines of logs and traces of these ranks cannot be put in order",
                     "let chrony or systemd-timesyncd set the clock on their hosts: chronyc tracking, timedatectl");
  }
}

// A rank whose core is shared, throttled or asleep takes longer for the same work.
void examine_pace(ExamRoom& room, SectionFindings& findings) {
  if (room.num_ranks() == 1) return;
  std::vector<std::byte> source(kPaceBytes, std::byte{1});
  std::vector<std::byte> target(kPaceBytes, std::byte{2});
  room.exchange->barrier(room.timeout);
  double best = 0;
  for (int i = 0; i < kNumPaces; ++i) {
    const auto start = std::chrono::steady_clock::now();
    std::memcpy(target.data(), source.data(), kPaceBytes);
    asm volatile("" : : "r"(target.data()) : "memory");  // nobody reads the copy, but it must be made
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(kPaceBytes) / taken.count() / 1e9);
  }
  std::vector<double> speeds;
  for (const auto& speed : gather(*room.exchange, std::vector{best}, room.timeout)) speeds.push_back(speed.at(0));
  std::vector<double> sorted = speeds;
  std::sort(sorted.begin(), sorted.end());
  const double median = sorted[sorted.size() / 2];
  std::vector<int> slow;
  for (std::size_t rank = 0; rank < speeds.size(); ++rank) {
    if (speeds[rank] * kSlow < median) slow.push_back(static_cast<int>(rank));
  }
  if (slow.empty()) {
    findings.ok("pace", fmt::format("every rank copies {:.1f} to {:.1f} GB/s at once", sorted.front(), sorted.back()));
    return;
  }
  const auto slowest = static_cast<std::size_t>(std::min_element(speeds.begin(), speeds.end()) - speeds.begin());
  findings.warning("pace",
                   fmt::format("rank {} is slow: {} copies {:.2f} GB/s, the median rank {:.1f}", to_ranges(slow),
                               name_of(static_cast<int>(slowest), room.processes[slowest]), sorted.front(), median),
                   "all others wait for it in every call",
                   "its core may be shared, throttled (CPU quota) or clocked down: top -H, cpu.stat of its control group");
}

}  // namespace tokenyard::cli
