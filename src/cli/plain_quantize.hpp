// FP8 with a scale per 128 values, one value at a time. Shares nothing with the library, so that it can check it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace tokenyard::cli {

enum class PlainScale : std::uint8_t {
  kFloat,       // a float32
  kPowerOfTwo,  // a float32 that is a power of two
  kExponent,    // that power of two 2^e as the byte e + 127
};

// Per block of 128 values: the scale is the largest magnitude, at least 1e-4, divided by 448, and rounded up to a power of two
// where it shall be one; a code is the e4m3 number nearest to value / scale. All values must be finite.
void plain_quantize(const std::vector<float>& values, PlainScale scale, std::byte* codes, std::byte* scales);

}  // namespace tokenyard::cli
