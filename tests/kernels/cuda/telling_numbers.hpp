// Numbers whose sums tell orders and roundings apart: of very different magnitudes, with NaNs, infinities and denormals among
// them.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "base/numeric.hpp"
#include "tests/support/random_bits.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::test {

// `dtype` is float16, bfloat16, float32 or float64; returns the elements' bytes.
inline std::vector<std::byte> telling_numbers(RandomBits& random, DataType dtype, std::int64_t num_elements) {
  const std::size_t element_bytes = size_of(dtype);
  std::vector<std::byte> bytes(num_elements * element_bytes);
  for (std::int64_t i = 0; i < num_elements; ++i) {
    std::uint64_t code = random.next();
    // Most are ordinary: any bit pattern would seldom be near another.
    if (code % 16 != 0) {
      const double value = static_cast<double>(static_cast<std::int64_t>(random.next()) >> 24) * std::ldexp(1.0, -36);
      const auto rounded = static_cast<float>(value);
      switch (dtype) {
        case DataType::kFloat16: code = numeric::float_to_float16(rounded); break;
        case DataType::kBFloat16: code = numeric::float_to_bfloat16(rounded); break;
        case DataType::kFloat32: code = numeric::bits_of(rounded); break;
        default: code = numeric::bits_of(value); break;
      }
    }
    std::memcpy(bytes.data() + i * element_bytes, &code, element_bytes);
  }
  return bytes;
}

}  // namespace tokenyard::test
