#include "exchange/job_file.hpp"

#include <fmt/core.h>

#include <array>
#include <charconv>

namespace tokenyard {
namespace {

constexpr std::string_view kClaimPrefix = "claim.";
constexpr std::string_view kRoundPrefix = "round.";
constexpr std::string_view kLeftPrefix = "left.";
constexpr std::string_view kTemporaryPrefix = ".tmp.";

}  // namespace

Bytes encode_job_file(const JobFile& file) {
  Writer writer(kJobFileHeaderBytes + file.body.size());
  writer.put_bytes(bytes_of(kMagic));
  writer.put(file.version);
  writer.put(static_cast<std::uint32_t>(file.kind));
  writer.put(file.rank);
  writer.put(file.num_ranks);
  writer.put(file.round);
  writer.put(file.session);
  writer.put(static_cast<std::uint64_t>(file.body.size()));
  writer.put_bytes(file.body);
  return writer.take();
}

std::optional<JobFile> decode_job_file(std::span<const std::byte> bytes, std::string& problem) {
  Reader reader(bytes);
  if (!reader.take_magic()) {
    problem = "is no file of Tokenyard";
    return std::nullopt;
  }
  JobFile file;
  file.version = reader.take<std::uint32_t>();
  file.kind = static_cast<JobFileKind>(reader.take<std::uint32_t>());
  file.rank = reader.take<std::uint32_t>();
  file.num_ranks = reader.take<std::uint32_t>();
  if (file.version != kWireVersion && bytes.size() >= kJobFileHeaderBytes) return file;
  file.round = reader.take<std::uint64_t>();
  file.session = reader.take<std::uint64_t>();
  const auto num_body_bytes = reader.take<std::uint64_t>();
  if (bytes.size() < kJobFileHeaderBytes) {
    problem = fmt::format("is truncated: it has {} bytes, fewer than its header", bytes.size());
    return std::nullopt;
  }
  const std::span<const std::byte> body = reader.take_rest();
  if (body.size() != num_body_bytes) {
    problem = fmt::format("is damaged: it announces {} bytes and holds {}", num_body_bytes, body.size());
    return std::nullopt;
  }
  file.body.assign(body.begin(), body.end());
  return file;
}

std::string claim_name(int rank) { return fmt::format("{}{}", kClaimPrefix, rank); }
std::string round_name(std::uint64_t round, int rank) { return fmt::format("{}{}.{}", kRoundPrefix, round, rank); }
std::string left_name(int rank) { return fmt::format("{}{}", kLeftPrefix, rank); }
std::string temporary_name(std::uint64_t session) { return fmt::format("{}{:016x}", kTemporaryPrefix, session); }

std::optional<int> claimed_rank(std::string_view name) {
  if (!name.starts_with(kClaimPrefix)) return std::nullopt;
  name.remove_prefix(kClaimPrefix.size());
  int rank = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), rank);
  if (error != std::errc{} || end != name.data() + name.size() || rank < 0) return std::nullopt;
  return rank;
}

bool is_job_file_name(std::string_view name) {
  for (const std::string_view prefix : {kClaimPrefix, kRoundPrefix, kLeftPrefix, kTemporaryPrefix}) {
    if (name.starts_with(prefix)) return true;
  }
  return name == kVerdictName || name == kLastName;
}

}  // namespace tokenyard
