// Named values in a stated order: one description of a result, printed as a table and written as JSON.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace tokenyard::cli {

// monostate: not known, or not measured; "-" in tables, null in JSON.
using Value = std::variant<std::monostate, bool, std::int64_t, double, std::string>;

using Record = std::vector<std::pair<std::string, Value>>;

// The value of `name`, or nullptr.
inline const Value* find(const Record& record, const std::string& name) {
  for (const auto& [field, value] : record) {
    if (field == name) return &value;
  }
  return nullptr;
}

}  // namespace tokenyard::cli
