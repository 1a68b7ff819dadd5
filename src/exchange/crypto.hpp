// The little cryptography that a rendezvous needs, from libsodium; crypto.cpp alone includes that.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

namespace tokenyard {

using Nonce = std::array<std::byte, 32>;   // used once: no two are ever equal
using Digest = std::array<std::byte, 32>;  // BLAKE2b-256
using Mac = std::array<std::byte, 32>;     // HMAC-SHA-256

// Key material that wipes itself.
class Key {
 public:
  explicit Key(const Mac& bytes) : bytes_(bytes) {}
  Key(const Key&) = default;
  Key& operator=(const Key&) = default;
  ~Key();

  std::span<const std::byte> bytes() const noexcept { return bytes_; }

 private:
  Mac bytes_;
};

// These throw Error(kSystem) if the library cannot start, for want of random numbers.
Nonce random_nonce();
std::uint32_t random_below(std::uint32_t bound);  // each number with the same probability, and none foreseeable
Digest digest_of(std::initializer_list<std::span<const std::byte>> parts);  // of all the parts' bytes in a row
Mac hmac(std::span<const std::byte> key, std::span<const std::byte> message);

// Takes the same time wherever the two differ.
bool is_equal(const Mac& left, const Mac& right);

}  // namespace tokenyard
