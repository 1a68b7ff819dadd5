#include "base/numeric.hpp"

#include "tokenyard/quantize.hpp"

namespace tokenyard {

std::uint16_t float_to_bfloat16(float value) noexcept { return numeric::float_to_bfloat16(value); }
std::uint16_t float_to_float16(float value) noexcept { return numeric::float_to_float16(value); }
std::uint8_t float_to_float8_e4m3(float value) noexcept { return numeric::float_to_float8_e4m3(value); }
float bfloat16_to_float(std::uint16_t bits) noexcept { return numeric::bfloat16_to_float(bits); }
float float16_to_float(std::uint16_t bits) noexcept { return numeric::float16_to_float(bits); }
float float8_e4m3_to_float(std::uint8_t bits) noexcept { return numeric::float8_e4m3_to_float(bits); }
float ue8m0_to_float(std::uint8_t bits) noexcept { return numeric::ue8m0_to_float(bits); }

}  // namespace tokenyard
