// The messages between rank 0 and the others.
//
// A frame is a header of 32 bytes and a body, and on an authenticated connection a seal of 32 bytes (seal.hpp):
//
//     offset  0  magic "TOKENYRD"      offset 16  round, u64: 0 is the rendezvous, all_gather counts from 1
//             8  wire version, u32            24  bytes of the body, u64
//            12  type, u32
//
// The header, the body of kFailed and the first two numbers of kHello stay as they are in every version, so that ranks of two
// versions can still tell each other what is wrong.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "exchange/bytes.hpp"
#include "exchange/crypto.hpp"
#include "exchange/verdict.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard {

enum class FrameType : std::uint32_t {
  kHello = 1,         // to rank 0: Hello
  kAccepted = 2,      // from rank 0: you have joined, and the round 0 goes on. With a secret: rank 0's proof
  kContribution = 3,  // to rank 0: this rank's bytes
  kResult = 4,        // from rank 0: every rank's bytes
  kExpired = 5,       // to rank 0: my deadline has passed. The milliseconds that it was, u64
  kFailed = 6,        // either way: Verdict
  kChallenge = 7,     // from rank 0, with a secret: a nonce
  kAnswer = 8,        // to rank 0: this rank's proof
};

struct FrameHeader {
  std::uint32_t version = kWireVersion;
  FrameType type = FrameType::kHello;
  std::uint64_t round = 0;
  std::uint64_t num_body_bytes = 0;
};

struct Frame {
  FrameHeader header;
  Bytes body;
};

inline constexpr std::size_t kFrameHeaderBytes = 32;

// What one side takes from the other: more is a protocol error, not an allocation.
inline constexpr std::uint64_t kMaxHelloBytes = 4096;  // leaves room for what later versions say
std::uint64_t max_contribution_frame_bytes();
std::uint64_t max_result_frame_bytes(int num_ranks);

Bytes encode_header(const FrameHeader& header);
std::optional<FrameHeader> decode_header(std::span<const std::byte, kFrameHeaderBytes> bytes);  // nullopt: not a frame

// A frame on its way out, without seal. One copy may wait on many connections of a thread.
class OutgoingFrame {
 public:
  explicit OutgoingFrame(Bytes bytes) : bytes_(std::move(bytes)) {}

  const Bytes& bytes() const noexcept { return bytes_; }
  const Digest& digest() const;  // computed once, when first asked for

 private:
  Bytes bytes_;
  mutable std::optional<Digest> digest_;
};
using SharedFrame = std::shared_ptr<const OutgoingFrame>;

SharedFrame make_frame(FrameType type, std::uint64_t round, std::span<const std::byte> body = {});

// Later versions may append to it.
struct Hello {
  std::uint32_t num_ranks = 0;
  std::uint32_t rank = 0;
  std::optional<Nonce> nonce = {};  // if this rank has a secret
};

// Decoders return nullopt for bodies that no encoder made.
Bytes encode_hello(const Hello& hello);
std::optional<Hello> decode_hello(std::span<const std::byte> body);

Bytes encode_result(const std::vector<Bytes>& messages);
std::optional<std::vector<Bytes>> decode_result(std::span<const std::byte> body, int num_ranks);

Bytes encode_expired(std::uint64_t waited_ms);
std::optional<std::uint64_t> decode_expired(std::span<const std::byte> body);

// A nonce or a proof.
std::optional<std::array<std::byte, 32>> decode_32_bytes(std::span<const std::byte> body);

}  // namespace tokenyard
