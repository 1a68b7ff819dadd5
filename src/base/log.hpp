// Lines for people. The public header says where they go.
#pragma once

#include <string_view>

#include "tokenyard/log.hpp"

namespace tokenyard {

void log(LogLevel level, std::string_view text);

}  // namespace tokenyard
