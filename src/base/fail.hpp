// Throwing errors with formatted text. For .cpp files: fmt is too heavy for headers that many include.
#pragma once

#include <fmt/core.h>

#include <utility>

#include "tokenyard/error.hpp"

namespace tokenyard {

template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw Error(code, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
[[noreturn]] void fail_argument(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorCode::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...));
}

// For a system call that returned -1: `what` failed, with errno's text.
[[noreturn]] void fail_system(const char* what);

}  // namespace tokenyard
