// Ranks that share a directory: files instead of messages, and nobody in the middle.
//
// When a rank has seen all claims it says so, in round 0, and when it has seen that of all others, they all live: the
// rendezvous is over. In every later round each rank puts down a file and reads those of the others; its own of the round
// before goes then, since all have read it. A round that cannot finish has a verdict instead, and the Exchange is over.
#include <fmt/core.h>

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>

#include "exchange/crypto.hpp"
#include "exchange/job_file.hpp"
#include "exchange/job_member.hpp"
#include "exchange/limits.hpp"
#include "exchange/poll_pause.hpp"
#include "exchange/rank_list.hpp"
#include "exchange/verdict.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard {
namespace {

// How often a network file system is made to look again.
constexpr std::chrono::milliseconds kRefreshInterval{1'000};

// Claims are random, so this is of these ranks and no others.
std::uint64_t session_of(const std::vector<JobFile>& claims) {
  Writer writer(claims.size() * sizeof(std::uint64_t));
  for (const JobFile& claim : claims) writer.put(claim.session);
  return Reader(digest_of({writer.take()})).take<std::uint64_t>();
}

class DirectoryExchange final : public Exchange {
 public:
  DirectoryExchange(const std::string& path, int rank, int num_ranks, const std::string& job)
      : member_(path, job, rank, num_ranks), rank_(rank), num_ranks_(num_ranks) {}
  ~DirectoryExchange() override { member_.go(round_); }

  int rank() const noexcept override { return rank_; }
  int num_ranks() const noexcept override { return num_ranks_; }

  void rendezvous(const Deadline& deadline) {
    member_.come(deadline);
    round_name_ = "rendezvous in " + member_.place();
    ending_on_errors([&] {
      member_.begin_session(session_of(collect(JobFileKind::kClaim, deadline)));
      member_.write(JobFileKind::kRound, round_name(0, rank_), 0, {});
      collect(JobFileKind::kRound, deadline);
    });
  }

  std::vector<Bytes> all_gather(std::span<const std::byte> bytes, std::chrono::milliseconds timeout) override {
    check_message(bytes);
    const Deadline deadline = bounded_deadline(timeout);
    throw_if_over(verdict_);
    std::vector<Bytes> messages;
    ending_on_errors([&] {
      // Before anything is put down: a rank that comes late shall not finish a round that the others have given up.
      throw_if_ended(member_.list());
      ++round_;
      round_name_ = fmt::format("Exchange, round {}", round_);
      member_.write(JobFileKind::kRound, round_name(round_, rank_), round_, bytes);
      for (JobFile& file : collect(JobFileKind::kRound, deadline)) messages.push_back(std::move(file.body));
      member_.remove(round_name(round_ - 1, rank_));
    });
    return messages;
  }

 private:
  // Waits for one file of every rank, in this round.
  std::vector<JobFile> collect(JobFileKind kind, const Deadline& deadline) {
    std::vector<JobFile> files(num_ranks_);
    std::vector<int> missing(num_ranks_);
    std::iota(missing.begin(), missing.end(), 0);
    PollPause pause;
    Deadline refresh(kRefreshInterval);
    while (true) {
      const bool is_last_look = deadline.passed();
      const JobMember::Names names = member_.list();
      const std::size_t num_taken = std::erase_if(missing, [&](int rank) { return take(kind, rank, names, files[rank]); });
      if (missing.empty()) return files;
      throw_if_ended(names);
      if (kind == JobFileKind::kClaim) check_claims(names);
      check_left(missing, names);
      if (is_last_look) end_missing(missing, deadline);
      if (num_taken > 0) pause.shorten();
      pause.sleep(deadline);
      if (refresh.passed()) {
        member_.refresh();
        refresh = Deadline(kRefreshInterval);
      }
    }
  }

  bool take(JobFileKind kind, int rank, const JobMember::Names& names, JobFile& file) {
    const std::string name = kind == JobFileKind::kClaim ? claim_name(rank) : round_name(round_, rank);
    if (!names.contains(name)) return false;
    std::optional<JobFile> found = read(kind, name, rank);
    if (!found) return false;
    file = *std::move(found);
    return true;
  }

  // Returns nothing if the file is not there; ends the Exchange if it does not belong there.
  std::optional<JobFile> read(JobFileKind kind, const std::string& name, int rank) {
    std::string problem;
    std::optional<JobFile> file = member_.read(kind, name, rank, round_, problem);
    if (!problem.empty()) end(ErrorCode::kDisagreement, rank, problem);
    return file;
  }

  // A rank that this one does not know of was started for more ranks.
  void check_claims(const JobMember::Names& names) {
    for (const std::string& name : names) {
      const std::optional<int> rank = claimed_rank(name);
      if (rank && *rank >= num_ranks_) read(JobFileKind::kClaim, name, *rank);
    }
  }

  void check_left(const std::vector<int>& missing, const JobMember::Names& names) {
    for (const int rank : missing) {
      if (!names.contains(left_name(rank))) continue;
      const std::optional<JobFile> file = read(JobFileKind::kLeft, left_name(rank), rank);
      // Its last file may have come after the listing.
      if (file && file->round < round_) {
        end(ErrorCode::kPeerLost, rank, fmt::format("rank {} has left: its Exchange was destroyed", rank));
      }
    }
  }

  void throw_if_ended(const JobMember::Names& names) {
    verdict_ = member_.verdict_in(names);
    if (verdict_) throw_verdict(*verdict_);
  }

  [[noreturn]] void end_missing(const std::vector<int>& missing, const Deadline& deadline) {
    std::string text = fmt::format("rank {} waited {} ms for {} of {}, not arrived yet", rank_, deadline.timeout().count(),
                                   list_ranks(missing), num_ranks_);
    if (round_ == 0) text += ". Are they running, and do they use this directory and this job name?";
    end(ErrorCode::kTimeout, missing.front(), text);
  }

  [[noreturn]] void end(ErrorCode code, int culprit, const std::string& what) {
    verdict_ = member_.end(make_verdict(code, culprit, rank_, fmt::format("{}: {}", round_name_, what)));
    throw_verdict(*verdict_);
  }

  // What the system refuses one rank is over for all.
  template <class Body>
  void ending_on_errors(Body body) {
    try {
      body();
    } catch (const Error& error) {
      if (verdict_) throw;
      end(error.code(), rank_, error.what());
    }
  }

  JobMember member_;
  int rank_;
  int num_ranks_;
  std::uint64_t round_ = 0;
  std::string round_name_;
  std::optional<Verdict> verdict_;
};

}  // namespace

std::shared_ptr<Exchange> make_directory_exchange(const std::string& path, int rank, int num_ranks, const std::string& job,
                                                  std::chrono::milliseconds timeout) {
  check_num_ranks(num_ranks);
  check_rank(rank, num_ranks);
  const auto exchange = std::make_shared<DirectoryExchange>(path, rank, num_ranks, job);
  exchange->rendezvous(bounded_deadline(timeout));
  return exchange;
}

}  // namespace tokenyard
