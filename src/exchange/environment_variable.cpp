#include "exchange/environment_variable.hpp"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>

#include "base/fail.hpp"

namespace tokenyard {

bool is_set(const char* variable) { return std::getenv(variable) != nullptr; }

std::string text_of(const char* variable, std::string_view advice) {
  const char* text = std::getenv(variable);
  if (text == nullptr) fail_argument("{} is not set. {}", variable, advice);
  if (*text == '\0') fail_argument("{} is set but empty. {}", variable, advice);
  return text;
}

std::uint64_t number_of(const char* variable, std::uint64_t least, std::uint64_t most, std::string_view advice) {
  const std::string text = text_of(variable, advice);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < least || number > most) {
    fail_argument("{}='{}': it must be a whole number from {} to {}. {}", variable, text, least, most, advice);
  }
  return number;
}

bool is_true(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return false;
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower == "true" || lower == "1";
}

}  // namespace tokenyard
