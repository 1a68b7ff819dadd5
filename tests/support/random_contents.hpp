// What stands in random rows. Every row follows from a seed of its own, so whoever checks one makes it again.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/support/random_bits.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::test {

// How numbers are chosen.
enum class Style {
  kTame,   // of similar size, with all mantissa bits in use: sums depend on the order of their terms
  kMixed,  // the same with zeros, infinities, NaNs, denormals and the largest numbers strewn in
  kWild,   // any bits
};
Style style_of(std::uint64_t seed);

void fill_bytes(std::uint64_t seed, std::byte* bytes, std::size_t num_bytes);

// dtype: one of the floating point types of 16 to 64 bits.
void fill_numbers(std::uint64_t seed, Style style, DataType dtype, std::byte* elements, std::int64_t num_elements);

float random_float(std::uint64_t seed, Style style);

}  // namespace tokenyard::test
