// A number that tells contents apart: equal contents have equal ones, different contents almost never. FNV-1a.
#pragma once

#include <cstdint>

namespace tokenyard {

class Fingerprint {
 public:
  void mix(std::uint32_t value) { hash_ = (hash_ ^ value) * 0x100000001b3; }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xcbf29ce484222325;
};

}  // namespace tokenyard
