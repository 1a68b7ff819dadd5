// One rank in a job's directory: how it comes, what it writes, how it ends the Exchange for all, how it goes.
//
// A rank claims its place by a file that only one process can make. Who goes says so by another file, and the last one removes
// the directory. Until then the place stays claimed: a rank that makes an Exchange of the same name again waits for the others
// to leave the one before. A verdict is a file that only one rank can make, too, so that the first counts for all.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "base/deadline.hpp"
#include "exchange/job_directory.hpp"
#include "exchange/job_file.hpp"
#include "exchange/verdict.hpp"

namespace tokenyard {

class JobMember {
 public:
  using Names = std::unordered_set<std::string>;

  JobMember(std::string path, std::string job, int rank, int num_ranks);

  // Blocks while the Exchange that had the name before lives. Throws Error: kDisagreement if the place is taken, kTimeout, or
  // the verdict of those who came before.
  void come(const Deadline& deadline);

  // Never blocks. `round` is the last that this rank took part in.
  void go(std::uint64_t round) noexcept;

  const std::string& place() const { return directory_->place(); }
  Names list() const { return directory_->list(); }
  void refresh() { directory_->refresh(); }
  void remove(const std::string& name) noexcept { directory_->remove(name); }

  void write(JobFileKind kind, const std::string& name, std::uint64_t round, std::span<const std::byte> body);

  // Returns nothing if the file is not there; with a `problem` if no rank of this session wrote it for this purpose. Claims
  // are of any session.
  std::optional<JobFile> read(JobFileKind kind, const std::string& name, int rank, std::uint64_t round,
                              std::string& problem) const;

  // Random until all ranks have come, then equal on all of them: what does not bear it belongs to another Exchange.
  std::uint64_t session() const noexcept { return session_; }
  void begin_session(std::uint64_t session) noexcept {
    session_ = session;
    have_all_come_ = true;
  }

  // Puts the verdict down and returns the one that counts, this or the one that was there before.
  Verdict end(Verdict verdict);
  std::optional<Verdict> verdict_in(const Names& names) const;

 private:
  JobFile file_of(JobFileKind kind, std::uint64_t round, std::span<const std::byte> body) const;
  std::string misfit(const JobFile& file, JobFileKind kind, int rank, std::uint64_t round) const;
  Verdict read_verdict() const;
  std::string owner_of_place() const;
  bool have_all_gone() const;
  [[noreturn]] void fail_too_late() const;
  [[noreturn]] void fail_taken();
  [[noreturn]] void fail_in_use(const Names& names, const Deadline& deadline) const;

  std::string path_;
  std::string job_;
  int rank_;
  int num_ranks_;
  std::uint64_t session_;
  std::optional<JobDirectory> directory_;
  bool has_come_ = false;
  bool have_all_come_ = false;
};

}  // namespace tokenyard
