// Where the library's lines for people go: to standard error, unless somebody asks for them.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace tokenyard {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError, kOff };

// `text` is one line without its end, valid during the call. It may be called by several threads at once, and must neither
// throw nor call the functions below.
using LogFunction = std::function<void(LogLevel level, std::string_view text)>;

// Of the whole process, from now on; an empty function stands for standard error. Returns when the function set before is not
// running any more. Thread-safe.
void set_log_function(LogFunction function);

// The least level that is written. At first it is that of the variable TOKENYARD_LOG (debug, info, warning, error or off), or
// kInfo. Thread-safe.
void set_log_level(LogLevel level) noexcept;

}  // namespace tokenyard
