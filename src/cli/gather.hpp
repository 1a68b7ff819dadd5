// Collective exchanges of a few plain values.
#pragma once

#include <chrono>
#include <cstring>
#include <span>
#include <vector>

#include "tokenyard/exchange.hpp"

namespace tokenyard::cli {

// Collective, blocking: every rank's values in rank order.
template <class T>
std::vector<std::vector<T>> gather(Exchange& exchange, const std::vector<T>& values, std::chrono::milliseconds timeout) {
  static_assert(std::is_trivially_copyable_v<T>);
  std::vector<std::vector<T>> all;
  for (const std::vector<std::byte>& bytes : exchange.all_gather(std::as_bytes(std::span(values)), timeout)) {
    all.emplace_back(bytes.size() / sizeof(T));
    if (!bytes.empty()) std::memcpy(all.back().data(), bytes.data(), bytes.size());
  }
  return all;
}

}  // namespace tokenyard::cli
