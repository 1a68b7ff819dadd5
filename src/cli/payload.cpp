#include "cli/payload.hpp"

#include <algorithm>
#include <cstring>

#include "cli/random_bits.hpp"

namespace tokenyard::cli {
namespace {

// Which bits of eight random bytes stay, and which are set besides: sign, the three lowest bits of the exponent and all of the
// fraction are random, the rest of the exponent is that of magnitudes in [2^-7, 2).
struct BitPattern {
  std::uint64_t keep;
  std::uint64_t set;
};

constexpr BitPattern pattern_of(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat16: return {.keep = 0x9fff'9fff'9fff'9fff, .set = 0x2000'2000'2000'2000};
    case DataType::kBFloat16: return {.keep = 0x83ff'83ff'83ff'83ff, .set = 0x3c00'3c00'3c00'3c00};
    case DataType::kFloat32: return {.keep = 0x83ff'ffff'83ff'ffff, .set = 0x3c00'0000'3c00'0000};
    case DataType::kFloat64: return {.keep = 0x807f'ffff'ffff'ffff, .set = 0x3f80'0000'0000'0000};
    default: return {.keep = ~std::uint64_t{0}, .set = 0};
  }
}

// Calls visit(offset, word, num_bytes) for every eight bytes of a row, the last ones possibly fewer, while it returns true.
template <class Visit>
void for_each_word(std::uint64_t row_seed, DataType dtype, std::size_t num_bytes, const Visit& visit) {
  const BitPattern pattern = pattern_of(dtype);
  std::uint64_t state = row_seed;
  for (std::size_t offset = 0; offset < num_bytes; offset += sizeof(std::uint64_t)) {
    state += 0x9e3779b97f4a7c15;
    const std::uint64_t word = (mix_bits(state) & pattern.keep) | pattern.set;
    if (!visit(offset, word, std::min(sizeof(word), num_bytes - offset))) return;
  }
}

}  // namespace

void write_payload(std::uint64_t row_seed, DataType dtype, std::byte* row, std::size_t num_bytes) {
  for_each_word(row_seed, dtype, num_bytes, [row](std::size_t offset, std::uint64_t word, std::size_t length) {
    std::memcpy(row + offset, &word, length);
    return true;
  });
}

bool is_payload(std::uint64_t row_seed, DataType dtype, const std::byte* row, std::size_t num_bytes) {
  bool equal = true;
  for_each_word(row_seed, dtype, num_bytes, [&](std::size_t offset, std::uint64_t word, std::size_t length) {
    equal = std::memcmp(row + offset, &word, length) == 0;
    return equal;
  });
  return equal;
}

}  // namespace tokenyard::cli
