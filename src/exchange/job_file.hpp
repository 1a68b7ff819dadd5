// The files of a job's directory.
//
//     claim.R    rank R is taken; its body says by whom, its session is random
//     round.N.R  rank R's bytes in round N; round 0 shows that rank R has seen all claims
//     left.R     rank R is gone; its round is the last that it took part in
//     verdict    why the Exchange is over
//     last       all ranks are gone, and whoever wrote this removes the directory
//
// A file is a header of 48 bytes and a body; all numbers are little-endian:
//
//     offset  0  magic "TOKENYRD"      offset 24  round, u64
//             8  wire version, u32            32  session, u64: which Exchange of this directory
//            12  kind, u32                    40  bytes of the body, u64
//            16  rank, u32
//            20  number of ranks, u32
//
// The first 24 bytes stay as they are in every version.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "exchange/bytes.hpp"
#include "exchange/limits.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard {

enum class JobFileKind : std::uint32_t { kClaim = 1, kRound = 2, kLeft = 3, kVerdict = 4, kLast = 5 };

struct JobFile {
  std::uint32_t version = kWireVersion;
  JobFileKind kind = JobFileKind::kClaim;
  std::uint32_t rank = 0;
  std::uint32_t num_ranks = 0;
  std::uint64_t round = 0;
  std::uint64_t session = 0;
  Bytes body;
};

inline constexpr std::size_t kJobFileHeaderBytes = 48;
inline constexpr std::size_t kMaxJobFileBytes = kJobFileHeaderBytes + kMaxMessageBytes;

Bytes encode_job_file(const JobFile& file);

// Returns nothing, and why, if no encoder made the bytes. Where the version is another, only the first five numbers count.
std::optional<JobFile> decode_job_file(std::span<const std::byte> bytes, std::string& problem);

inline constexpr std::string_view kVerdictName = "verdict";
inline constexpr std::string_view kLastName = "last";
std::string claim_name(int rank);
std::string round_name(std::uint64_t round, int rank);
std::string left_name(int rank);
std::string temporary_name(std::uint64_t session);

// The rank of a claim's name; nothing for other names.
std::optional<int> claimed_rank(std::string_view name);

// Whether a file of this name may be removed with the directory.
bool is_job_file_name(std::string_view name);

}  // namespace tokenyard
