#include "tests/support/random_contents.hpp"

#include <bit>
#include <cstring>

namespace tokenyard::test {
namespace {

struct Format {
  int num_bits;
  int mantissa_bits;
};

Format format_of(DataType dtype) {
  switch (dtype) {
    case DataType::kFloat16: return {16, 10};
    case DataType::kBFloat16: return {16, 7};
    case DataType::kFloat64: return {64, 52};
    default: return {32, 23};
  }
}

template <class Code>
Code random_code(RandomBits* random, Style style, const Format& format) {
  const std::uint64_t bits = random->next();
  if (style == Style::kWild) return static_cast<Code>(bits);
  const std::uint64_t mantissa_mask = (std::uint64_t{1} << format.mantissa_bits) - 1;
  const std::uint64_t sign = std::uint64_t{1} << (format.num_bits - 1);
  const std::uint64_t exponent_mask = (sign - 1) & ~mantissa_mask;
  if (style == Style::kMixed && bits % 16 == 0) {
    const std::uint64_t payload = (bits >> 8) & mantissa_mask;
    const std::uint64_t magnitude[] = {0,
                                       exponent_mask,                  // infinity
                                       exponent_mask | payload | 1,    // some NaN
                                       exponent_mask | mantissa_mask,  // the canonical NaN
                                       1,                              // the smallest number
                                       payload,                        // some denormal
                                       exponent_mask - 1,              // the largest number
                                       mantissa_mask + 1};             // the smallest normal number
    return static_cast<Code>(magnitude[(bits >> 4) % 8] | ((bits >> 7) % 2 == 0 ? 0 : sign));
  }
  // From 1/4 to 4, of either sign.
  const std::uint64_t bias = exponent_mask >> (format.mantissa_bits + 1);
  const std::uint64_t exponent = bias - 2 + (bits >> 62);
  return static_cast<Code>((bits & (sign | mantissa_mask)) | (exponent << format.mantissa_bits));
}

template <class Code>
void fill_codes(RandomBits* random, Style style, const Format& format, std::byte* elements, std::int64_t num_elements) {
  for (std::int64_t i = 0; i < num_elements; ++i) {
    const Code code = random_code<Code>(random, style, format);
    std::memcpy(elements + i * sizeof(Code), &code, sizeof(code));
  }
}

}  // namespace

Style style_of(std::uint64_t seed) {
  const std::uint64_t choice = seed_of(seed, 1) % 8;
  return choice < 5 ? Style::kTame : choice < 7 ? Style::kMixed : Style::kWild;
}

void fill_bytes(std::uint64_t seed, std::byte* bytes, std::size_t num_bytes) {
  RandomBits random(seed);
  for (; num_bytes >= 8; num_bytes -= 8, bytes += 8) {
    const std::uint64_t word = random.next();
    std::memcpy(bytes, &word, 8);
  }
  const std::uint64_t word = random.next();
  std::memcpy(bytes, &word, num_bytes);
}

void fill_numbers(std::uint64_t seed, Style style, DataType dtype, std::byte* elements, std::int64_t num_elements) {
  RandomBits random(seed);
  const Format format = format_of(dtype);
  if (format.num_bits == 16) return fill_codes<std::uint16_t>(&random, style, format, elements, num_elements);
  if (format.num_bits == 32) return fill_codes<std::uint32_t>(&random, style, format, elements, num_elements);
  fill_codes<std::uint64_t>(&random, style, format, elements, num_elements);
}

float random_float(std::uint64_t seed, Style style) {
  RandomBits random(seed);
  return std::bit_cast<float>(random_code<std::uint32_t>(&random, style, format_of(DataType::kFloat32)));
}

}  // namespace tokenyard::test
