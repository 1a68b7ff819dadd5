// How much is fuzzed, from which seed, and what must not grow meanwhile.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace tokenyard::test {

inline std::uint64_t number_from_environment(const char* variable, std::uint64_t otherwise) {
  const char* text = std::getenv(variable);
  return text == nullptr ? otherwise : std::stoull(text);
}

inline std::uint64_t fuzz_seed() { return number_from_environment("TOKENYARD_FUZZ_SEED", 20240229); }

// Messages against a rendezvous; the other tests scale with it. Sanitizers make each several times as dear.
inline std::uint64_t num_fuzz_messages() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr std::uint64_t kDefault = 12'000;
#else
  constexpr std::uint64_t kDefault = 60'000;
#endif
  return number_from_environment("TOKENYARD_FUZZ_MESSAGES", kDefault);
}

// What this process holds.
struct Holdings {
  std::int64_t num_descriptors = 0;
  std::int64_t num_threads = 0;
  std::int64_t resident_kib = 0;
};

inline Holdings holdings() {
  const auto count = [](const char* directory) {
    return std::distance(std::filesystem::directory_iterator(directory), std::filesystem::directory_iterator());
  };
  Holdings held{count("/proc/self/fd"), count("/proc/self/task"), 0};
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word == "VmRSS:") status >> held.resident_kib;
  }
  return held;
}

// Every test here begins by saying how it can be repeated, and ends with what it began with.
class Fuzz : public testing::Test {
 protected:
  void SetUp() override {
    RecordProperty("seed", std::to_string(fuzz_seed()));
    before_ = holdings();
  }

  void TearDown() override {
    const Holdings after = holdings();
    EXPECT_EQ(after.num_descriptors, before_.num_descriptors);
    EXPECT_EQ(after.num_threads, before_.num_threads);
    if (HasFailure()) std::printf("to repeat this: TOKENYARD_FUZZ_SEED=%llu\n", static_cast<unsigned long long>(fuzz_seed()));
  }

  Holdings before_;
};

}  // namespace tokenyard::test
