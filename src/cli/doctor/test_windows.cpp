// The self-test of groups and windows: every byte that a peer puts, and how fast signals and copies are between two ranks.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "cli/doctor/exam_room.hpp"
#include "cli/gather.hpp"
#include "cli/random_bits.hpp"
#include "tokenyard/error.hpp"

namespace tokenyard::cli {
namespace {

constexpr int kMostRanksForAllPairs = 12;
constexpr std::size_t kLineBytes = 64;
constexpr std::size_t kBlockBytes = std::size_t{64} << 10;
constexpr std::size_t kCopyBytes = std::size_t{4} << 20;
constexpr int kNumCopies = 5;
constexpr int kNumBatches = 5;
constexpr int kRoundTrips = 20;      // per batch
constexpr double kSlowSignal = 500;  // microseconds for a round trip: ranks that share a core take longer
constexpr double kUnlike = 5;        // times the median pair

void fill(std::vector<std::byte>& block, int writer, int reader) {
  for (std::size_t i = 0; i < block.size(); i += sizeof(std::uint64_t)) {
    const std::uint64_t word = hash_bits(writer, reader, i);
    std::memcpy(block.data() + i, &word, sizeof(word));
  }
}

std::vector<std::byte> block_of(int writer, int reader) {
  std::vector<std::byte> block(kBlockBytes);
  fill(block, writer, reader);
  return block;
}

std::int64_t sum_over_ranks(ExamRoom& room, std::int64_t number) {
  std::int64_t sum = 0;
  for (const auto& part : gather(*room.exchange, std::vector{number}, room.timeout)) sum += part.at(0);
  return sum;
}

// Waits for a word of this rank's region. A window knows words, not who was to write them: `writer` is named here.
void wait_for(int writer, const Window& window, std::size_t word, std::uint64_t value, std::chrono::milliseconds timeout) {
  try {
    window.wait(word, Compare::kGreaterEqual, value, timeout);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kTimeout || error.failure().culprit >= 0) throw;
    Failure named = error.failure();
    named.culprit = writer;
    throw Error(named, error.what());
  }
}

constexpr const char* kReportIt =
    "run doctor again; if it says so again, on this machine alone, test its memory (memtest86+, dmesg | grep -i -e mce -e "
    "edac); "
    "otherwise report it as a bug with this page";

struct Pair {
  int first = 0;
  int second = 0;
};

// Every pair of few ranks; of many ranks each with the next, which bounds the time.
std::vector<Pair> list_pairs(int num_ranks) {
  std::vector<Pair> pairs;
  for (int first = 0; first < num_ranks; ++first) {
    for (int second = first + 1; second < num_ranks; ++second) {
      if (num_ranks <= kMostRanksForAllPairs || second == first + 1) pairs.push_back({first, second});
    }
  }
  return pairs;
}

struct PairTimes {
  double round_trip = 0;  // microseconds
  double bandwidth = 0;   // GB/s
};

// One pair at a time talks through this; a rank's words and its peers' copies lie in its own region.
class PairTest {
 public:
  explicit PairTest(ExamRoom& room)
      : room_(room), window_(room.group->window(copies_offset() + kCopyBytes)), source_(kCopyBytes, std::byte{1}) {}

  // The times, on the first rank of the pair.
  PairTimes run(const Pair& pair) {
    PairTimes times;
    room_.exchange->barrier(room_.timeout);
    num_sent_ = num_received_ = 0;
    if (room_.rank() == pair.first) {
      times.round_trip = time_signals(pair.second);
      times.bandwidth = time_copies(pair.second);
      send(pair.second);
    } else if (room_.rank() == pair.second) {
      for (int i = 0; i < (kNumBatches + 1) * kRoundTrips; ++i) {
        receive(pair.first);
        send(pair.first);
      }
      receive(pair.first);
    }
    return times;
  }

 private:
  static std::size_t word_of(int rank) { return static_cast<std::size_t>(rank) * kLineBytes; }
  std::size_t copies_offset() const { return word_of(room_.num_ranks()); }

  // A pair meets once, so the words that its ranks write to each other are still 0 when it begins.
  void send(int peer) { window_.signal(peer, word_of(room_.rank()), ++num_sent_); }
  // The others wait in the next pair's barrier meanwhile. Half of their deadline, so that the one rank that knows who is late
  // says so before they take it for the culprit.
  void receive(int peer) { wait_for(peer, window_, word_of(peer), ++num_received_, room_.timeout / 2); }

  // The best batch counts: what else runs on the host is not the pair's fault. The first batch warms up.
  double time_signals(int peer) {
    double best = 0;
    for (int batch = 0; batch <= kNumBatches; ++batch) {
      const auto start = std::chrono::steady_clock::now();
      for (int i = 0; i < kRoundTrips; ++i) {
        send(peer);
        receive(peer);
      }
      const std::chrono::duration<double, std::micro> taken = std::chrono::steady_clock::now() - start;
      if (batch == 1 || (batch > 1 && taken.count() / kRoundTrips < best)) best = taken.count() / kRoundTrips;
    }
    return best;
  }

  double time_copies(int peer) {
    double best = 0;
    for (int i = 0; i < kNumCopies; ++i) {
      const auto start = std::chrono::steady_clock::now();
      window_.put(peer, copies_offset(), source_.data(), kCopyBytes);
      window_.quiet();
      const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
      best = std::max(best, static_cast<double>(kCopyBytes) / taken.count() / 1e9);
    }
    return best;
  }

  ExamRoom& room_;
  Window window_;
  std::vector<std::byte> source_;
  std::uint64_t num_sent_ = 0;
  std::uint64_t num_received_ = 0;
};

double median_of(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void judge_signals(const std::vector<Pair>& pairs, const std::vector<double>& round_trips, SectionFindings& findings) {
  const double median = median_of(round_trips);
  const auto slowest = std::max_element(round_trips.begin(), round_trips.end());
  const Pair& pair = pairs[static_cast<std::size_t>(slowest - round_trips.begin())];
  const std::string value = fmt::format("round trip {:.2f} us (median pair), {:.2f} us (slowest: {} and {})", median, *slowest,
                                        pair.first, pair.second);
  if (median > kSlowSignal) {
    findings.warning(
        "signals", value, "ranks with a core each answer in less than 10 us",
        "fewer ranks, more cores, or fewer other programs: the lines about cores, CPU quota and load above say which");
  } else if (*slowest > kSlowSignal && *slowest > kUnlike * median) {
    findings.warning("signals", value, fmt::format("ranks {} and {} answer each other late", pair.first, pair.second),
                     "look which cores they run on, and what else does: taskset -cp PROCESS, top -H");
  } else {
    findings.ok("signals", value);
  }
}

void judge_copies(const std::vector<Pair>& pairs, const std::vector<double>& bandwidths, SectionFindings& findings) {
  const auto slowest = std::min_element(bandwidths.begin(), bandwidths.end());
  const Pair& pair = pairs[static_cast<std::size_t>(slowest - bandwidths.begin())];
  const double median = median_of(bandwidths);
  const std::string value =
      fmt::format("{:.2f} GB/s (median pair), {:.2f} GB/s (slowest: {} to {})", median, *slowest, pair.first, pair.second);
  if (*slowest * kUnlike < median) {
    findings.warning("copies", value, "this pair is unlike the others",
                     "look which cores and which NUMA node they run on, and what else does: numactl --show, top -H");
  } else {
    findings.ok("copies", value);
  }
}

}  // namespace

int num_tested_pairs(int num_ranks) { return static_cast<int>(list_pairs(num_ranks).size()); }

void test_group(ExamRoom& room, SectionFindings& findings) {
  const auto start = std::chrono::steady_clock::now();
  room.group = Group::create(room.exchange, {.timeout = room.timeout, .domain = {}});
  const std::chrono::duration<double, std::milli> taken = std::chrono::steady_clock::now() - start;
  const int num_domains = room.group->num_domains();
  if (num_domains == 1) {
    findings.ok("group", fmt::format("one domain, made in {:.0f} ms", taken.count()));
    return;
  }
  room.group.reset();
  const std::string value = fmt::format("{} domains: not all ranks reach each other's memory", num_domains);
  if (room.num_hosts > 1) {
    findings.failure("group", value,
                     fmt::format("they run on {} hosts, and this version moves tokens within a host only", room.num_hosts),
                     "start all ranks on one host");
  } else {
    findings.failure("group", value,
                     "they run on one host, but in different containers, network namespaces or as different users",
                     "run them as one user in one network namespace: docker --network=host, or one pod");
  }
}

void test_window(ExamRoom& room, SectionFindings& findings) {
  const int rank = room.rank();
  const auto num_ranks = static_cast<std::size_t>(room.num_ranks());
  const std::size_t words = num_ranks * kBlockBytes;  // offset of the words behind the blocks
  const Window window = room.group->window(words + num_ranks * kLineBytes);
  for (int peer = 0; peer < room.num_ranks(); ++peer) {
    const std::vector<std::byte> block = block_of(rank, peer);
    window.put(peer, static_cast<std::size_t>(rank) * kBlockBytes, block.data(), block.size());
    window.signal(peer, words + static_cast<std::size_t>(rank) * kLineBytes, 1);
  }
  std::int64_t num_wrong = 0;
  for (int peer = 0; peer < room.num_ranks(); ++peer) {
    const auto place = static_cast<std::size_t>(peer);
    wait_for(peer, window, words + place * kLineBytes, 1, room.timeout);
    if (std::memcmp(window.local() + place * kBlockBytes, block_of(peer, rank).data(), kBlockBytes) != 0) ++num_wrong;
  }
  room.exchange->barrier(room.timeout);
  // What everybody else has put here, read back from there.
  std::vector<std::byte> block(kBlockBytes);
  for (int peer = 0; peer < room.num_ranks(); ++peer) {
    window.get(peer, static_cast<std::size_t>(rank) * kBlockBytes, block.data(), block.size());
    if (block != block_of(rank, peer)) ++num_wrong;
  }
  num_wrong = sum_over_ranks(room, num_wrong);
  if (num_wrong > 0) {
    findings.failure("window", fmt::format("{} blocks of 64 KiB arrived changed", num_wrong),
                     "shared memory does not keep what is written", kReportIt);
  } else {
    findings.ok("window", fmt::format("64 KiB put to and got from every peer by every rank, all bytes right"));
  }
}

void test_pairs(ExamRoom& room, SectionFindings& findings) {
  if (room.num_ranks() == 1) return;
  const std::vector<Pair> pairs = list_pairs(room.num_ranks());
  std::vector<double> round_trips(pairs.size());
  std::vector<double> bandwidths(pairs.size());
  PairTest test(room);
  for (std::size_t i = 0; i < pairs.size(); ++i) {
    const PairTimes times = test.run(pairs[i]);
    round_trips[i] = times.round_trip;
    bandwidths[i] = times.bandwidth;
    room.advance();
  }
  // Measured by the pair's first rank, 0 on all others.
  for (std::vector<double>* values : {&round_trips, &bandwidths}) {
    const auto by_rank = gather(*room.exchange, *values, room.timeout);
    for (std::size_t i = 0; i < pairs.size(); ++i) (*values)[i] = by_rank[static_cast<std::size_t>(pairs[i].first)].at(i);
  }
  judge_signals(pairs, round_trips, findings);
  judge_copies(pairs, bandwidths, findings);
}

}  // namespace tokenyard::cli
