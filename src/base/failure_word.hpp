// A Failure in one word, so that it can be set once for all in memory that hosts and devices share. 0 means none.
#pragma once

#include <cstdint>

#include "tokenyard/error.hpp"

namespace tokenyard {

// Layout of a packed failure: bit 63 set, then code, phase, culprit and reporter, 16 bits each. The culprit may be -1: unknown.
constexpr std::uint64_t pack(const Failure& failure) {
  return (std::uint64_t{1} << 63) | (static_cast<std::uint64_t>(failure.code) << 48) |
         (static_cast<std::uint64_t>(failure.phase) << 32) |
         (static_cast<std::uint64_t>(static_cast<std::uint16_t>(failure.culprit)) << 16) |
         static_cast<std::uint64_t>(failure.reporter);
}

constexpr Failure unpack_failure(std::uint64_t word) {
  return {static_cast<ErrorCode>((word >> 48) & 0xff), static_cast<Phase>((word >> 32) & 0xff),
          static_cast<std::int16_t>((word >> 16) & 0xffff), static_cast<int>(word & 0xffff)};
}

}  // namespace tokenyard
