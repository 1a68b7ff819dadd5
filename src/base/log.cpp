#include "base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>

namespace tokenyard {
namespace {

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("tokenyard", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("tokenyard: %l: %v");
    const char* level = std::getenv("TOKENYARD_LOG");
    const spdlog::level::level_enum known = spdlog::level::from_str(level == nullptr ? "info" : level);
    const bool is_unknown = known == spdlog::level::off && std::string_view(level) != "off";
    made->set_level(is_unknown ? spdlog::level::info : known);
    if (is_unknown) made->warn("TOKENYARD_LOG is {}: it must be debug, info, warning, error or off; info is taken", level);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum level_of(LogLevel level) noexcept {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarning: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
    case LogLevel::kOff: return spdlog::level::off;
  }
  return spdlog::level::off;
}

// Held shared by those who call the function, so that whoever replaces it waits for them.
struct Listener {
  std::shared_mutex mutex;
  LogFunction function;
};

Listener& listener() {
  static Listener* const instance = new Listener;  // never destroyed: other threads may log while the process exits
  return *instance;
}

}  // namespace

void set_log_function(LogFunction function) {
  const std::lock_guard lock(listener().mutex);
  std::swap(listener().function, function);
}

void set_log_level(LogLevel level) noexcept { logger().set_level(level_of(level)); }

void log(LogLevel level, std::string_view text) {
  if (!logger().should_log(level_of(level))) return;
  {
    const std::shared_lock lock(listener().mutex);
    if (listener().function) {
      listener().function(level, text);
      return;
    }
  }
  logger().log(level_of(level), spdlog::string_view_t(text.data(), text.size()));
}

}  // namespace tokenyard
