// Seeded values without state: every rank computes the same ones from the same numbers, in any order.
#pragma once

#include <cstdint>

namespace tokenyard::cli {

// The output step of splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
constexpr std::uint64_t mix_bits(std::uint64_t bits) {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111eb;
  return bits ^ (bits >> 31);
}

// 64 bits that look random and follow from the seed and the words alone.
template <class... Words>
constexpr std::uint64_t hash_bits(std::uint64_t seed, Words... words) {
  std::uint64_t bits = mix_bits(seed + 0x9e3779b97f4a7c15);
  ((bits = mix_bits((bits + 0x9e3779b97f4a7c15) ^ static_cast<std::uint64_t>(words))), ...);
  return bits;
}

// Uniform in [0, 1), a multiple of 2^-24: exact in float32.
constexpr float unit_float(std::uint64_t bits) { return static_cast<float>(bits >> 40) * 0x1p-24F; }

// Uniform in (0, 1).
constexpr double open_unit(std::uint64_t bits) { return (static_cast<double>(bits >> 12) + 0.5) * 0x1p-52; }

// Uniform in [0, bound), for bounds below 2^32.
constexpr std::uint64_t below(std::uint64_t bits, std::uint64_t bound) { return (bits >> 32) * bound >> 32; }

}  // namespace tokenyard::cli
