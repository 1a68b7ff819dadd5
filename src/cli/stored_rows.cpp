#include "cli/stored_rows.hpp"

#include <bit>
#include <cstring>

#include "base/fail.hpp"
#include "tokenyard/quantize.hpp"

namespace tokenyard::cli {

void store_values(const float* values, std::int64_t num_values, DataType dtype, std::byte* stored) {
  if (dtype == DataType::kFloat32) {
    std::memcpy(stored, values, static_cast<std::size_t>(num_values) * sizeof(float));
    return;
  }
  if (dtype != DataType::kBFloat16 && dtype != DataType::kFloat16) fail_argument("cannot store values as {}", to_string(dtype));
  for (std::int64_t i = 0; i < num_values; ++i) {
    const std::uint16_t bits = dtype == DataType::kBFloat16 ? float_to_bfloat16(values[i]) : float_to_float16(values[i]);
    std::memcpy(stored + i * 2, &bits, sizeof(bits));
  }
}

void load_values(const std::byte* stored, DataType dtype, std::int64_t num_values, float* values) {
  if (dtype == DataType::kFloat32) {
    std::memcpy(values, stored, static_cast<std::size_t>(num_values) * sizeof(float));
    return;
  }
  if (dtype == DataType::kBFloat16) {
    // The upper half of a float32; spelt out because benchmarks check many millions of values.
    for (std::int64_t i = 0; i < num_values; ++i) {
      std::uint16_t bits = 0;
      std::memcpy(&bits, stored + i * 2, sizeof(bits));
      values[i] = std::bit_cast<float>(std::uint32_t{bits} << 16);
    }
    return;
  }
  if (dtype != DataType::kFloat16) fail_argument("cannot load values from {}", to_string(dtype));
  for (std::int64_t i = 0; i < num_values; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, stored + i * 2, sizeof(bits));
    values[i] = float16_to_float(bits);
  }
}

}  // namespace tokenyard::cli
