// Lines for people, on standard error. TOKENYARD_LOG chooses the least level shown: debug, info (the default), warning, error,
// off.
#pragma once

#include <string_view>

namespace tokenyard {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

void log(LogLevel level, std::string_view text);

}  // namespace tokenyard
