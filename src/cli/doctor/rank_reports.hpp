// What ranks that this program has forked tell it, whatever becomes of them.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <optional>
#include <string>

namespace tokenyard::cli {

// Memory that a process shares with the children that it forks later. Each rank writes its own place once; who reads a report
// sees all of it or none.
class RankReports {
 public:
  explicit RankReports(int num_ranks);  // throws Error(kSystem)
  ~RankReports();
  RankReports(const RankReports&) = delete;
  RankReports& operator=(const RankReports&) = delete;

  void announce(int rank) const;                          // by the rank's process: its number
  void write(int rank, const std::string& report) const;  // cut where it is too long
  pid_t process_of(int rank) const;                       // 0: not announced yet
  std::optional<std::string> read(int rank) const;

 private:
  struct Place;
  Place& place(int rank) const;

  Place* places_;
  std::size_t num_ranks_;
};

}  // namespace tokenyard::cli
