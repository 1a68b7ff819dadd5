// How the environment asks tests for more or less than they do by themselves.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace tokenyard::test {

// The number in an environment variable, or `otherwise` where it is unset or empty.
inline std::int64_t number_in_environment(const char* name, std::int64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr || *text == '\0' ? otherwise : std::strtoll(text, nullptr, 0);
}

}  // namespace tokenyard::test
