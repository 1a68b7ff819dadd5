#include "base/numeric.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "tests/base/reference_rounding.hpp"
#include "tokenyard/quantize.hpp"

namespace tokenyard::test {
namespace {

static_assert(numeric::float_to_float16(1.0F) == 0x3c00, "conversions work at compile time");
static_assert(numeric::float8_e4m3_to_float(0x7e) == 448.0F);
static_assert(numeric::bfloat16_to_float(0xc000) == -2.0F);

std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

// A conversion pair under its public names, and the reference for it.
struct Conversion {
  const char* name;
  ReferenceFormat reference;
  std::uint32_t (*encode)(float);
  float (*decode)(std::uint32_t);
};

void PrintTo(const Conversion& conversion, std::ostream* stream) { *stream << conversion.name; }

const std::vector<Conversion>& conversions() {
  static const std::vector<Conversion> all = {
      {"float16", ReferenceFormat::float16(), [](float value) -> std::uint32_t { return float_to_float16(value); },
       [](std::uint32_t code) { return float16_to_float(static_cast<std::uint16_t>(code)); }},
      {"bfloat16", ReferenceFormat::bfloat16(), [](float value) -> std::uint32_t { return float_to_bfloat16(value); },
       [](std::uint32_t code) { return bfloat16_to_float(static_cast<std::uint16_t>(code)); }},
      {"float8_e4m3", ReferenceFormat::float8_e4m3(), [](float value) -> std::uint32_t { return float_to_float8_e4m3(value); },
       [](std::uint32_t code) { return float8_e4m3_to_float(static_cast<std::uint8_t>(code)); }},
  };
  return all;
}

class Conversions : public testing::TestWithParam<Conversion> {
 protected:
  const ReferenceFormat& reference() const { return GetParam().reference; }
  std::uint32_t encode(float value) const { return GetParam().encode(value); }
  float decode(std::uint32_t code) const { return GetParam().decode(code); }
};

INSTANTIATE_TEST_SUITE_P(All, Conversions, testing::ValuesIn(conversions()),
                         [](const auto& param_info) { return std::string(param_info.param.name); });

TEST_P(Conversions, every_code_decodes_to_its_value) {
  for (std::uint32_t code = 0; code < reference().num_finite(); ++code) {
    ASSERT_EQ(static_cast<double>(decode(code)), reference().magnitude(code)) << "code " << code;
    ASSERT_EQ(bits(decode(code | reference().sign())), bits(decode(code)) | 0x80000000U) << "code " << code;
  }
}

TEST_P(Conversions, every_code_survives_a_round_trip) {
  const std::uint32_t num_codes = reference().sign() * 2;
  for (std::uint32_t code = 0; code < num_codes; ++code) {
    const std::uint32_t expected = std::isnan(decode(code)) ? reference().nan_code() : code;
    ASSERT_EQ(encode(decode(code)), expected) << "code " << code;
  }
}

TEST_P(Conversions, nan_codes_decode_to_the_canonical_nan) {
  int num_nans = 0;
  for (std::uint32_t code = 0; code < reference().sign() * 2; ++code) {
    if (!std::isnan(decode(code))) continue;
    ++num_nans;
    ASSERT_EQ(bits(decode(code)), 0x7fffffffU) << "code " << code;
  }
  const std::uint32_t last = reference().sign() - 1;
  EXPECT_TRUE(std::isnan(decode(last)));
  // What lies beyond the finite codes is NaN, except for one infinity per sign where there is one.
  const std::uint32_t num_beyond = 2 * (reference().sign() - reference().num_finite());
  EXPECT_EQ(num_nans, static_cast<int>(num_beyond) - (std::isinf(decode(reference().num_finite())) ? 2 : 0));
}

TEST_P(Conversions, values_and_midpoints_and_their_neighbours_round_to_nearest_even) {
  for (const float value : reference().telling_floats()) {
    ASSERT_EQ(encode(value), reference().encode(value)) << std::hexfloat << value << " bits " << std::hex << bits(value);
  }
}

TEST_P(Conversions, random_floats_round_to_nearest_even) {
  std::mt19937 random(7);
  for (int draw = 0; draw < 500'000; ++draw) {
    // Any bits; and, half of the time, an exponent that the narrow types have.
    std::uint32_t drawn = static_cast<std::uint32_t>(random());
    if (draw % 2 == 0) drawn = (drawn & 0x807fffffU) | (static_cast<std::uint32_t>(95 + random() % 50) << 23);
    const auto value = std::bit_cast<float>(drawn);
    ASSERT_EQ(encode(value), reference().encode(value)) << std::hexfloat << value << " bits " << std::hex << drawn;
  }
}

TEST_P(Conversions, ignore_the_rounding_mode_of_the_thread) {
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    std::vector<std::uint32_t> codes;
    const std::vector<float> floats = reference().telling_floats();
    ASSERT_EQ(std::fesetround(mode), 0);
    for (const float value : floats) codes.push_back(encode(value));
    std::fesetround(FE_TONEAREST);
    for (std::size_t idx = 0; idx < floats.size(); ++idx) ASSERT_EQ(codes[idx], reference().encode(floats[idx])) << floats[idx];
  }
}

TEST(Numeric, float16_and_bfloat16_overflow_to_infinity) {
  EXPECT_EQ(float_to_float16(65519.99F), 0x7bff);
  EXPECT_EQ(float_to_float16(65520.0F), 0x7c00);
  EXPECT_EQ(float_to_float16(-1e30F), 0xfc00);
  EXPECT_EQ(float_to_float16(INFINITY), 0x7c00);
  EXPECT_EQ(float_to_bfloat16(3.4e38F), 0x7f80);
  EXPECT_EQ(float_to_bfloat16(-INFINITY), 0xff80);
}

TEST(Numeric, float8_saturates) {
  EXPECT_EQ(float_to_float8_e4m3(449.0F), 0x7e);
  EXPECT_EQ(float_to_float8_e4m3(-480.0F), 0xfe);
  EXPECT_EQ(float_to_float8_e4m3(1e38F), 0x7e);
  EXPECT_EQ(float_to_float8_e4m3(-INFINITY), 0xfe);
}

TEST(Numeric, denormals_are_honoured) {
  EXPECT_EQ(float_to_float16(std::ldexp(1.0F, -24)), 0x0001);
  EXPECT_EQ(float_to_float16(std::ldexp(1.0F, -25)), 0x0000);  // a tie, to even
  EXPECT_EQ(float_to_float16(-std::ldexp(1.5F, -25)), 0x8001);
  EXPECT_EQ(float_to_bfloat16(std::bit_cast<float>(0x00010000U)), 0x0001);
  EXPECT_EQ(float_to_float8_e4m3(std::ldexp(1.0F, -9)), 0x01);
  EXPECT_EQ(float8_e4m3_to_float(0x81), -std::ldexp(1.0F, -9));
}

TEST(Numeric, ue8m0_codes_are_powers_of_two) {
  for (int code = 0; code < 255; ++code) {
    ASSERT_EQ(ue8m0_to_float(static_cast<std::uint8_t>(code)), std::ldexp(1.0F, code - 127)) << "code " << code;
    if (code == 0) continue;
    ASSERT_EQ(numeric::power_of_2_to_ue8m0(std::ldexp(1.0F, code - 127)), code);
  }
  EXPECT_EQ(bits(ue8m0_to_float(255)), 0x7fffffffU);
}

TEST(Numeric, scales_round_up_to_powers_of_two_and_exact_ones_stay) {
  for (int exponent = -126; exponent < 127; ++exponent) {
    const float power = std::ldexp(1.0F, exponent);
    ASSERT_EQ(numeric::round_up_to_power_of_2(power), power);
    ASSERT_EQ(numeric::round_up_to_power_of_2(std::nextafterf(power, INFINITY)), 2 * power);
    ASSERT_EQ(numeric::round_up_to_power_of_2(std::nextafterf(2 * power, 0)), 2 * power);
  }
}

TEST(Numeric, every_nan_becomes_the_canonical_one) {
  for (std::uint32_t payload = 1; payload < 0x800000; payload = payload * 2 + payload % 3) {
    for (const std::uint32_t sign : {0U, 0x80000000U}) {
      const auto nan = std::bit_cast<float>(sign | 0x7f800000U | payload);
      ASSERT_EQ(bits(numeric::canonical(nan)), 0x7fffffffU);
    }
  }
  for (const std::uint64_t nan : {0x7ff0000000000001U, 0xfff8000000000000U, 0xffffffffffffffffU}) {
    ASSERT_EQ(std::bit_cast<std::uint64_t>(numeric::canonical(std::bit_cast<double>(nan))), 0x7fffffffffffffffU);
  }
  EXPECT_EQ(numeric::canonical(-INFINITY), -INFINITY);
  EXPECT_EQ(numeric::canonical(static_cast<double>(INFINITY)), INFINITY);
  EXPECT_TRUE(std::signbit(numeric::canonical(-0.0F)));
}

TEST(Numeric, types_have_names) {
  EXPECT_STREQ(to_string(DataType::kFloat8E4M3), "float8_e4m3");
  EXPECT_STREQ(to_string(DataType::kBFloat16), "bfloat16");
}

}  // namespace
}  // namespace tokenyard::test
