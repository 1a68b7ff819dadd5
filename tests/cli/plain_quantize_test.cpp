#include "cli/plain_quantize.hpp"

#include <gtest/gtest.h>

#include <random>
#include <tuple>
#include <vector>

#include "tokenyard/quantize.hpp"

namespace tokenyard::cli {
namespace {

using Scales = std::tuple<PlainScale, ScaleFormat, DataType>;

TEST(plain_quantize, agrees_with_the_library) {
  constexpr std::int64_t kHidden = 300;
  constexpr std::size_t kNumScales = 3;
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (const auto& [plain, format, dtype] : {Scales{PlainScale::kFloat, ScaleFormat::kFloat32, DataType::kFloat32},
                                             Scales{PlainScale::kPowerOfTwo, ScaleFormat::kFloat32PowerOf2, DataType::kFloat32},
                                             Scales{PlainScale::kExponent, ScaleFormat::kUE8M0, DataType::kUE8M0}}) {
    for (const float magnitude : {1e-7F, 1e-3F, 1.0F, 3e4F}) {
      std::vector<float> values(kHidden);
      for (float& value : values) value = normal(random) * magnitude;
      values[5] = 0;
      values[130] = -448.0F * magnitude;  // a scale that is a power of two already, for some magnitudes
      std::vector<std::byte> codes(kHidden);
      std::vector<std::byte> scales(kNumScales * size_of(dtype));
      std::vector<std::byte> expected_codes(kHidden);
      std::vector<std::byte> expected_scales(scales.size());
      quantize({values.data(), DataType::kFloat32, {1, kHidden}}, format,
               {expected_codes.data(), DataType::kFloat8E4M3, {1, kHidden}},
               {expected_scales.data(), dtype, {1, static_cast<std::int64_t>(kNumScales)}});
      plain_quantize(values, plain, codes.data(), scales.data());
      EXPECT_EQ(codes, expected_codes) << magnitude;
      EXPECT_EQ(scales, expected_scales) << magnitude;
    }
  }
}

}  // namespace
}  // namespace tokenyard::cli
