// How long what goes right may take in tests.
#pragma once

#include <chrono>
#include <cstdlib>

namespace tokenyard::test {

// Long enough for a loaded machine; nothing that goes right waits for it. TOKENYARD_TEST_TIMEOUT, in seconds, is for tools that
// slow a program down.
inline std::chrono::milliseconds ample_time() {
  const char* const text = std::getenv("TOKENYARD_TEST_TIMEOUT");
  const int given = text == nullptr ? 0 : std::atoi(text);
  return std::chrono::seconds(given > 0 ? given : 30);
}

}  // namespace tokenyard::test
