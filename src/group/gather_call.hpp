// The collective calls of a group, which must be the same on all ranks: each exchange of bytes says what it is for.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tokenyard/exchange.hpp"

namespace tokenyard {

enum class GroupCall : std::uint64_t { kWindow = 1, kPlan, kBarrier, kRecover };

// Collective, blocking. Returns every rank's bytes in rank order. Throws Error(kDisagreement) on all ranks when they make
// different calls.
std::vector<std::vector<std::byte>> gather_call(Exchange& exchange, GroupCall call, std::span<const std::byte> bytes,
                                                std::chrono::milliseconds timeout);

}  // namespace tokenyard
