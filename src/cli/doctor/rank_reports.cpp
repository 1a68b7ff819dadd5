#include "cli/doctor/rank_reports.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "base/fail.hpp"

namespace tokenyard::cli {

struct RankReports::Place {
  static constexpr std::size_t kMostBytes = std::size_t{64} << 10;

  std::atomic<pid_t> process;
  std::atomic<std::int64_t> num_bytes;  // of the report, plus one; 0: none yet
  std::array<char, kMostBytes> text;
};

RankReports::RankReports(int num_ranks) : num_ranks_(static_cast<std::size_t>(num_ranks)) {
  // Pages that no rank touches take no memory.
  void* pages =
      mmap(nullptr, num_ranks_ * sizeof(Place), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED) fail_system("mmap of the ranks' reports");
  places_ = static_cast<Place*>(pages);  // zeros, which are what each atomic begins with
}

RankReports::~RankReports() { munmap(places_, num_ranks_ * sizeof(Place)); }

RankReports::Place& RankReports::place(int rank) const { return places_[rank]; }

void RankReports::announce(int rank) const { place(rank).process.store(getpid(), std::memory_order_relaxed); }

void RankReports::write(int rank, const std::string& report) const {
  Place& own = place(rank);
  const std::size_t num_bytes = std::min(report.size(), own.text.size());
  std::memcpy(own.text.data(), report.data(), num_bytes);
  // Pairs with the acquire in read().
  own.num_bytes.store(static_cast<std::int64_t>(num_bytes) + 1, std::memory_order_release);
}

pid_t RankReports::process_of(int rank) const { return place(rank).process.load(std::memory_order_relaxed); }

std::optional<std::string> RankReports::read(int rank) const {
  const Place& other = place(rank);
  const std::int64_t num_bytes = other.num_bytes.load(std::memory_order_acquire);
  if (num_bytes == 0) return std::nullopt;
  return std::string(other.text.data(), static_cast<std::size_t>(num_bytes - 1));
}

}  // namespace tokenyard::cli
