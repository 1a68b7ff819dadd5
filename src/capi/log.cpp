#include "tokenyard/log.hpp"

#include <string>

#include "capi/values.hpp"

using namespace tokenyard;
using namespace tokenyard::capi;

ty_status ty_set_log_function(ty_log_function function, void* context) {
  return guarded([&] {
    if (function == nullptr) return set_log_function({});
    set_log_function([function, context](LogLevel level, std::string_view text) {
      function(context, static_cast<ty_log_level>(level), std::string(text).c_str());
    });
  });
}

ty_status ty_set_log_level(ty_log_level level) {
  return guarded([&] { set_log_level(enum_of(level, LogLevel::kOff, "level")); });
}
