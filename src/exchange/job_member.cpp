#include "exchange/job_member.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "base/log.hpp"
#include "exchange/crypto.hpp"
#include "exchange/poll_pause.hpp"
#include "exchange/rank_list.hpp"

namespace tokenyard {
namespace {

std::string name_of_this_process() {
  std::array<char, 256> host{};
  gethostname(host.data(), host.size() - 1);
  return fmt::format("process {} on {}", getpid(), host.data());
}

std::vector<int> staying_ranks(const JobMember::Names& names) {
  std::vector<int> ranks;
  for (const std::string& name : names) {
    const std::optional<int> rank = claimed_rank(name);
    if (rank && !names.contains(left_name(*rank))) ranks.push_back(*rank);
  }
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

}  // namespace

JobMember::JobMember(std::string path, std::string job, int rank, int num_ranks)
    : path_(std::move(path)),
      job_(std::move(job)),
      rank_(rank),
      num_ranks_(num_ranks),
      session_(Reader(random_nonce()).take<std::uint64_t>()) {}

void JobMember::come(const Deadline& deadline) {
  const Bytes claim = encode_job_file(file_of(JobFileKind::kClaim, 0, bytes_of(name_of_this_process())));
  PollPause pause;
  while (true) {
    const bool is_last_look = deadline.passed();
    directory_.emplace(path_, job_, session_);
    const Names names = list();
    const bool has_failed = names.contains(std::string(kVerdictName)) && !names.contains(claim_name(rank_));
    if (has_failed && directory_->is_in_place()) fail_too_late();
    const JobDirectory::Claim outcome = directory_->publish_once(claim_name(rank_), claim);
    const bool is_in_place = directory_->is_in_place();
    if (outcome == JobDirectory::Claim::kDone) {
      has_come_ = is_in_place;
      if (has_come_) return;
      // It was on its way out, and whoever removes it may have missed this claim.
      remove(claim_name(rank_));
    } else if (outcome == JobDirectory::Claim::kTaken && is_in_place && !names.contains(left_name(rank_))) {
      fail_taken();
    }
    if (is_last_look) fail_in_use(names, deadline);
    pause.sleep(deadline);
  }
}

void JobMember::go(std::uint64_t round) noexcept {
  if (!has_come_) return;
  try {
    write(JobFileKind::kLeft, left_name(rank_), round, {});
    if (!have_all_gone()) return;
    // Several may see that all have gone.
    const Bytes last = encode_job_file(file_of(JobFileKind::kLast, round, {}));
    if (directory_->publish_once(kLastName, last) == JobDirectory::Claim::kDone) directory_->dissolve();
  } catch (const std::exception& error) {
    log(LogLevel::kWarning, fmt::format("'{}' could not be left in order: {}", place(), error.what()));
  }
}

void JobMember::write(JobFileKind kind, const std::string& name, std::uint64_t round, std::span<const std::byte> body) {
  directory_->publish(name, encode_job_file(file_of(kind, round, body)));
}

std::optional<JobFile> JobMember::read(JobFileKind kind, const std::string& name, int rank, std::uint64_t round,
                                       std::string& problem) const {
  const std::optional<Bytes> bytes = directory_->read(name, problem);
  std::optional<JobFile> file;
  if (bytes) file = decode_job_file(*bytes, problem);
  if (file) problem = misfit(*file, kind, rank, round);
  if (!problem.empty()) problem = fmt::format("the file '{}/{}' {}", place(), name, problem);
  return problem.empty() ? file : std::nullopt;
}

Verdict JobMember::end(Verdict verdict) {
  try {
    const Bytes bytes = encode_job_file(file_of(JobFileKind::kVerdict, 0, encode_verdict(verdict)));
    if (directory_->publish_once(kVerdictName, bytes) == JobDirectory::Claim::kTaken) return read_verdict();
  } catch (const Error& error) {
    log(LogLevel::kWarning,
        fmt::format("the other ranks will know only at their deadlines why the Exchange is over: {}", error.what()));
  }
  return verdict;
}

std::optional<Verdict> JobMember::verdict_in(const Names& names) const {
  if (!names.contains(std::string(kVerdictName))) return std::nullopt;
  return read_verdict();
}

Verdict JobMember::read_verdict() const {
  std::string problem;
  const std::optional<Bytes> bytes = directory_->read(kVerdictName, problem);
  std::optional<JobFile> file;
  std::optional<Verdict> verdict;
  if (bytes) file = decode_job_file(*bytes, problem);
  if (file) verdict = decode_verdict(file->body);
  if (verdict) return *std::move(verdict);
  if (problem.empty()) problem = "holds no verdict that this version understands";
  return make_verdict(
      ErrorCode::kDisagreement, -1, rank_,
      fmt::format("this Exchange is over, but the file that says why, '{}/{}', {}", place(), kVerdictName, problem));
}

JobFile JobMember::file_of(JobFileKind kind, std::uint64_t round, std::span<const std::byte> body) const {
  return {.kind = kind,
          .rank = static_cast<std::uint32_t>(rank_),
          .num_ranks = static_cast<std::uint32_t>(num_ranks_),
          .round = round,
          .session = session_,
          .body = Bytes(body.begin(), body.end())};
}

std::string JobMember::misfit(const JobFile& file, JobFileKind kind, int rank, std::uint64_t round) const {
  if (file.version != kWireVersion) {
    return fmt::format(
        "is of version {} of the wire format, and rank {} speaks version {}: install the same Tokenyard for all "
        "ranks",
        file.version, rank_, kWireVersion);
  }
  if (file.num_ranks != static_cast<std::uint32_t>(num_ranks_)) {
    return fmt::format("is of a rank that was started for {} ranks, and rank {} for {}: give all ranks the same number",
                       file.num_ranks, rank_, num_ranks_);
  }
  const bool is_of_session = kind == JobFileKind::kClaim || file.session == session_;
  const bool is_of_round = kind != JobFileKind::kRound || file.round == round;
  if (file.kind == kind && file.rank == static_cast<std::uint32_t>(rank) && is_of_session && is_of_round) return {};
  return "belongs to another place or another Exchange: was it copied, or did a killed job of this name leave it?";
}

std::string JobMember::owner_of_place() const {
  std::string problem;
  const std::optional<Bytes> bytes = directory_->read(claim_name(rank_), problem);
  std::optional<JobFile> file;
  if (bytes) file = decode_job_file(*bytes, problem);
  if (!file) return "somebody unknown";
  return {reinterpret_cast<const char*>(file->body.data()), file->body.size()};
}

bool JobMember::have_all_gone() const {
  const Names names = list();
  if (!staying_ranks(names).empty()) return false;
  for (int rank = 0; rank < num_ranks_; ++rank) {
    const bool has_gone = names.contains(left_name(rank)) || directory_->holds(left_name(rank));
    if (!has_gone && (have_all_come_ || directory_->holds(claim_name(rank)))) return false;
  }
  return true;
}

void JobMember::fail_too_late() const {
  const Verdict verdict = read_verdict();
  throw Error(
      verdict.failure,
      fmt::format("rendezvous in {}: it failed before rank {} came: {}. If no rank of that run lives any more: rm -r '{}', "
                  "or choose another job name",
                  place(), rank_, verdict.text, place()));
}

// Two ranks of one number, or what a killed job has left.
void JobMember::fail_taken() {
  Verdict verdict = make_verdict(
      ErrorCode::kDisagreement, rank_, rank_,
      fmt::format(
          "rendezvous in {}: rank {} is taken already, by {}: give each process its own rank. If that one was killed: rm "
          "-r '{}', or choose another job name",
          place(), rank_, owner_of_place(), place()));
  bool has_met = true;
  for (int rank = 0; rank < num_ranks_; ++rank) has_met = has_met && directory_->holds(claim_name(rank));
  // A job that has met is none of this process's business.
  if (!has_met) verdict = end(std::move(verdict));
  throw_verdict(verdict);
}

void JobMember::fail_in_use(const Names& names, const Deadline& deadline) const {
  const std::vector<int> staying = staying_ranks(names);
  throw_verdict(make_verdict(
      ErrorCode::kTimeout, staying.empty() ? -1 : staying.front(), rank_,
      fmt::format("rendezvous in {}: rank {} waited {} ms for {} to leave the Exchange that had this job name before. If they "
                  "live no more: rm -r '{}', or choose another job name",
                  place(), rank_, deadline.timeout().count(), list_ranks(staying), place())));
}

}  // namespace tokenyard
