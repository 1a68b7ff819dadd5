// Named values in a stated order: one description of a result, printed as a table and written as JSON.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace tokenyard::cli {

struct Value {
  enum class Kind : std::uint8_t {
    kUnknown,  // not known, or not measured: "-" in tables, null in JSON
    kTruth,
    kInteger,
    kReal,
    kText,
  };

  Value() = default;
  Value(bool truth_in) : kind(Kind::kTruth), truth(truth_in) {}                // NOLINT(google-explicit-constructor)
  Value(double real_in) : kind(Kind::kReal), real(real_in) {}                  // NOLINT(google-explicit-constructor)
  Value(std::string text_in) : kind(Kind::kText), text(std::move(text_in)) {}  // NOLINT(google-explicit-constructor)
  Value(const char* text_in) : kind(Kind::kText), text(text_in) {}             // NOLINT(google-explicit-constructor)
  template <std::integral Integer>
  Value(Integer integer_in) : kind(Kind::kInteger), integer(static_cast<std::int64_t>(integer_in)) {}  // NOLINT

  friend bool operator==(const Value&, const Value&) = default;

  // Integers and reals as a real number; 0 for everything else.
  double number() const { return kind == Kind::kInteger ? static_cast<double>(integer) : real; }

  Kind kind = Kind::kUnknown;
  bool truth = false;
  std::int64_t integer = 0;
  double real = 0;
  std::string text;
};

using Record = std::vector<std::pair<std::string, Value>>;

// The value of `name`; unknown where the record has none.
inline Value find(const Record& record, const std::string& name) {
  for (const auto& [field, value] : record) {
    if (field == name) return value;
  }
  return {};
}

}  // namespace tokenyard::cli
