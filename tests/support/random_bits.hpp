// Random numbers that follow from a seed alone, the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace tokenyard::test {

// One step of splitmix64: every bit of the result depends on every bit of the argument.
constexpr std::uint64_t scramble(std::uint64_t word) noexcept {
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9;
  word = (word ^ (word >> 27)) * 0x94d049bb133111eb;
  return word ^ (word >> 31);
}

// A seed for a part of what `seed` determines: seed_of(seed, rank, token).
template <class... Parts>
constexpr std::uint64_t seed_of(std::uint64_t seed, Parts... parts) noexcept {
  ((seed = scramble((seed + 0x9e3779b97f4a7c15) ^ (static_cast<std::uint64_t>(parts) * 0xd6e8feb86659fd93))), ...);
  return seed;
}

class RandomBits {
 public:
  explicit constexpr RandomBits(std::uint64_t seed) noexcept : state_(seed) {}

  constexpr std::uint64_t next() noexcept { return scramble(state_ += 0x9e3779b97f4a7c15); }

  // Both ends included.
  constexpr std::int64_t from(std::int64_t least, std::int64_t most) noexcept {
    return least + static_cast<std::int64_t>(next() % static_cast<std::uint64_t>(most - least + 1));
  }

  // Every power of two between the ends is as likely as every other.
  constexpr std::int64_t any_magnitude(std::int64_t least, std::int64_t most) noexcept {
    int num_doublings = 0;
    while ((least << (num_doublings + 1)) <= most) ++num_doublings;
    const std::int64_t begin = least << from(0, num_doublings);
    return from(begin, begin * 2 - 1 < most ? begin * 2 - 1 : most);
  }

  constexpr bool one_in(int count) noexcept { return next() % static_cast<std::uint64_t>(count) == 0; }

  template <class T>
  constexpr T pick(std::initializer_list<T> choices) noexcept {
    return choices.begin()[next() % choices.size()];
  }

 private:
  std::uint64_t state_;
};

}  // namespace tokenyard::test
