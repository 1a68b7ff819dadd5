#include "exchange/admission.hpp"

#include <fmt/core.h>

#include <utility>

#include "exchange/handshake.hpp"
#include "exchange/secret.hpp"

namespace tokenyard {
namespace {

using Kind = Admission::Judgement::Kind;

Verdict misfit(const Hello& hello, std::string text) {
  return make_verdict(ErrorCode::kDisagreement, static_cast<int>(hello.rank), 0, "rendezvous: " + std::move(text));
}

}  // namespace

Admission::Admission(int num_ranks, std::optional<Key> secret, std::string rank_zero)
    : secret_(std::move(secret)), joined_(num_ranks) {
  joined_[0] = std::move(rank_zero);
}

Admission::Judgement Admission::hear(Candidate& candidate, const Frame& frame) {
  return candidate.hello ? hear_answer(candidate, frame) : hear_hello(candidate, frame);
}

Admission::Judgement Admission::hear_hello(Candidate& candidate, const Frame& frame) {
  std::optional<Hello> hello = frame.header.type == FrameType::kHello ? decode_hello(frame.body) : std::nullopt;
  if (!hello) return {Kind::kGoes, {}};
  candidate.hello = std::move(hello);
  if (std::optional<std::string> text = misfit_of_kind(frame, *candidate.hello, candidate.connection.peer())) {
    return refuse_unproved(candidate, misfit(*candidate.hello, std::move(*text)));
  }
  if (!secret_) {
    Judgement judgement = join(candidate);
    if (judgement.kind == Kind::kJoins) candidate.connection.send(make_frame(FrameType::kAccepted, 0));
    return judgement;
  }
  candidate.challenge = random_nonce();
  candidate.connection.send(make_frame(FrameType::kChallenge, 0, candidate.challenge));
  return {Kind::kWaits, {}};
}

Admission::Judgement Admission::hear_answer(Candidate& candidate, const Frame& frame) {
  const Handshake handshake(*secret_, *candidate.hello, candidate.challenge);
  const std::optional<Mac> proof = frame.header.type == FrameType::kAnswer ? decode_32_bytes(frame.body) : std::nullopt;
  if (!proof || !is_equal(*proof, handshake.proof_of_rank())) {
    return refuse_unproved(
        candidate, misfit(*candidate.hello, fmt::format("{}, which says that it is rank {}, does not know rank 0's secret: {}",
                                                        candidate.connection.peer(), candidate.hello->rank, kSameSecret)));
  }
  // Also before a refusal: the candidate will believe it only from who has proved himself.
  candidate.connection.send(make_frame(FrameType::kAccepted, 0, handshake.proof_of_rank_zero()));
  candidate.connection.seal(handshake.key_of_rank_zero(), handshake.key_of_rank());
  return join(candidate);
}

Admission::Judgement Admission::join(const Candidate& candidate) {
  const Hello& hello = *candidate.hello;
  const std::string& peer = candidate.connection.peer();
  if (std::optional<std::string> text = misfit_of_place(hello, peer)) {
    return {Kind::kEndsAll, misfit(hello, std::move(*text))};
  }
  joined_[hello.rank] = peer;
  return {Kind::kJoins, {}};
}

// Without a secret everybody is believed, which only loopback permits.
Admission::Judgement Admission::refuse_unproved(Candidate& candidate, Verdict verdict) const {
  if (!secret_) return {Kind::kEndsAll, std::move(verdict)};
  candidate.connection.send(make_frame(FrameType::kFailed, 0, encode_verdict(verdict)));
  return {Kind::kGoes, std::move(verdict)};
}

std::optional<std::string> Admission::misfit_of_kind(const Frame& frame, const Hello& hello, const std::string& peer) const {
  if (frame.header.version != kWireVersion) {
    return fmt::format(
        "rank {} ({}) speaks version {} of the wire format and rank 0 version {}: install the same Tokenyard for all ranks",
        hello.rank, peer, frame.header.version, kWireVersion);
  }
  if (hello.nonce.has_value() == secret_.has_value()) return std::nullopt;
  return fmt::format("rank {} ({}) has {} secret and rank 0 has {}: {}", hello.rank, peer, hello.nonce ? "a" : "no",
                     secret_ ? "one" : "none", kSameSecret);
}

std::optional<std::string> Admission::misfit_of_place(const Hello& hello, const std::string& peer) const {
  if (hello.num_ranks != joined_.size()) {
    return fmt::format(
        "rank {} ({}) was started for {} ranks and rank 0 for {}: give all ranks the same WORLD_SIZE "
        "(TcpRendezvous::num_ranks)",
        hello.rank, peer, hello.num_ranks, joined_.size());
  }
  if (hello.rank >= hello.num_ranks) {
    return fmt::format("{} says that it is rank {} of {}: ranks count from 0", peer, hello.rank, hello.num_ranks);
  }
  if (!joined_[hello.rank].empty()) {
    return fmt::format("two processes say that they are rank {}, at {} and {}: give each its own RANK (TcpRendezvous::rank)",
                       hello.rank, joined_[hello.rank], peer);
  }
  return std::nullopt;
}

}  // namespace tokenyard
