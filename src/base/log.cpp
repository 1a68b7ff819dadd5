#include "base/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>
#include <string>

namespace tokenyard {
namespace {

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("tokenyard", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    made->set_pattern("tokenyard: %l: %v");
    const char* level = std::getenv("TOKENYARD_LOG");
    made->set_level(level == nullptr ? spdlog::level::info : spdlog::level::from_str(level));
    return made;
  }();
  return *instance;
}

}  // namespace

void log(LogLevel level, std::string_view text) {
  const auto line = spdlog::string_view_t(text.data(), text.size());
  switch (level) {
    case LogLevel::kDebug: logger().log(spdlog::level::debug, line); break;
    case LogLevel::kInfo: logger().log(spdlog::level::info, line); break;
    case LogLevel::kWarning: logger().log(spdlog::level::warn, line); break;
    case LogLevel::kError: logger().log(spdlog::level::err, line); break;
  }
}

}  // namespace tokenyard
