// Single values of the C interface: enumerations, choices of yes or no, timeouts.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "capi/boundary.hpp"

namespace tokenyard::capi {

// Enumerations have the same numbers in C and C++ (values.cpp asserts it); `last` is the highest.
template <class Enum>
Enum enum_of(std::int32_t value, Enum last, const char* name) {
  if (value < 0 || value > static_cast<std::int32_t>(last)) {
    fail_argument("{} is {}: it must be from 0 to {}", name, value, static_cast<std::int32_t>(last));
  }
  return static_cast<Enum>(value);
}

inline bool flag_of(std::int32_t value, const char* name) {
  if (value != 0 && value != 1) fail_argument("{} is {}: it must be 0 or 1", name, value);
  return value == 1;
}

inline std::chrono::milliseconds timeout_of(std::int32_t timeout_ms, const char* name) {
  if (timeout_ms < 0) fail_argument("{} is {}: it must not be negative", name, timeout_ms);
  return std::chrono::milliseconds(timeout_ms);
}

// Of a call that has the group's by default.
inline std::optional<std::chrono::milliseconds> timeout_or_group(std::int32_t timeout_ms, const char* name) {
  if (timeout_ms == TY_GROUP_TIMEOUT) return std::nullopt;
  return timeout_of(timeout_ms, name);
}

}  // namespace tokenyard::capi
