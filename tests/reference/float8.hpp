// Float8 with a scale per 128 values of a row, one value at a time. The type: a sign, 4 bits of exponent, 3 of mantissa, no
// infinities; its largest value is 448.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace reference {

enum class Scale {
  kFloat,            // a float32
  kFloatPowerOfTwo,  // a float32 that is a power of two
  kExponent,         // a power of two 2^e as the byte e + 127
};

std::size_t bytes_of(Scale scale);

// The nearest code, the even one of two. What is too large becomes the largest; every NaN 0x7f.
std::uint8_t nearest_float8(float value);
float value_of_float8(std::uint8_t code);

// Per block of 128: amax is the largest magnitude of its finite values, at least 1e-4; the scale is amax / 448, for powers of
// two the next one that is not below it; the codes are those nearest to value / scale. `codes`: a byte per value; `scales`: one
// per begun block.
void quantize_row(const std::vector<float>& values, Scale scale, std::byte* codes, std::byte* scales);

// What is left of the values after quantize_row with float scales.
void pass_through_float8(std::vector<float>* values);

}  // namespace reference
