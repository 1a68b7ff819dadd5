// Why an exchange is over. Whoever notices words it once; it travels, and every rank throws the same.
//
// A verdict is final: ranks may disagree about which rounds they finished, so no later round could be trusted. Each later
// call throws it again.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "exchange/bytes.hpp"
#include "tokenyard/error.hpp"

namespace tokenyard {

struct Verdict {
  Failure failure;
  std::string text;
};

// All that an Exchange does is rendezvous in the sense of Phase: ranks finding each other.
inline Verdict make_verdict(ErrorCode code, int culprit, int reporter, std::string text) {
  return {{code, Phase::kRendezvous, culprit, reporter}, std::move(text)};
}

[[noreturn]] inline void throw_verdict(const Verdict& verdict) { throw Error(verdict.failure, verdict.text); }

inline void throw_if_over(const std::optional<Verdict>& verdict) {
  if (verdict) throw Error(verdict->failure, "this Exchange is over: " + verdict->text);
}

// A verdict on its way: code, phase, culprit and reporter, u32 each, then the text. A longer text is cut. This form is the
// same in every version.
inline constexpr std::uint64_t kMaxVerdictBytes = 64 * 1024;
Bytes encode_verdict(const Verdict& verdict);
// nullopt: no encoder made this. A stranger may have sent it, so control characters are replaced and impossible ranks are -1.
std::optional<Verdict> decode_verdict(std::span<const std::byte> body);

}  // namespace tokenyard
