#include "tokenyard/quantize.hpp"

#include "tests/kernels/every_target.hpp"
// After the targets.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "tests/base/expect_error.hpp"
#include "tests/base/reference_rounding.hpp"

namespace tokenyard::test {
namespace {

// A value type as the tests see it.
struct ValueType {
  DataType dtype;
  std::size_t num_bytes;
};
constexpr ValueType kValueTypes[] = {{DataType::kFloat32, 4}, {DataType::kBFloat16, 2}, {DataType::kFloat16, 2}};
constexpr ScaleFormat kScaleFormats[] = {ScaleFormat::kFloat32, ScaleFormat::kFloat32PowerOf2, ScaleFormat::kUE8M0};

std::uint32_t encode(DataType dtype, float value) {
  static const ReferenceFormat float16 = ReferenceFormat::float16();
  static const ReferenceFormat bfloat16 = ReferenceFormat::bfloat16();
  if (dtype == DataType::kFloat16) return float16.encode(value);
  if (dtype == DataType::kBFloat16) return bfloat16.encode(value);
  return std::isnan(value) ? 0x7fffffffU : std::bit_cast<std::uint32_t>(value);
}

float decode(DataType dtype, std::uint32_t code) {
  static const ReferenceFormat float16 = ReferenceFormat::float16();
  if (dtype == DataType::kFloat32) return std::bit_cast<float>(code);
  if (dtype == DataType::kBFloat16) return std::bit_cast<float>(code << 16);
  const std::uint32_t magnitude = code & 0x7fffU;
  float value = NAN;
  if (magnitude == 0x7c00U) value = INFINITY;
  if (magnitude < 0x7c00U) value = static_cast<float>(float16.magnitude(magnitude));
  return (code & 0x8000U) != 0 ? -value : value;
}

const ReferenceFormat& float8() {
  static const ReferenceFormat reference = ReferenceFormat::float8_e4m3();
  return reference;
}

float decode_float8(std::uint8_t code) {
  if ((code & 0x7f) == 0x7f) return NAN;
  const auto value = static_cast<float>(float8().magnitude(code & 0x7fU));
  return (code & 0x80) != 0 ? -value : value;
}

// A matrix of any strides, in its own memory.
struct Matrix {
  Matrix(DataType dtype, std::int64_t num_rows, std::int64_t num_columns, std::int64_t row_stride, std::int64_t column_stride)
      : bytes(static_cast<std::size_t>((num_rows * row_stride + num_columns * column_stride + 1)) * size_of(dtype),
              std::byte{0x5a}),
        view(bytes.data(), dtype, {num_rows, num_columns}, {row_stride, column_stride}) {}

  std::uint32_t code(std::int64_t row, std::int64_t column) const {
    std::uint32_t loaded = 0;
    std::memcpy(&loaded, view.at(row, column), size_of(view.dtype));
    return loaded;
  }
  void set_code(std::int64_t row, std::int64_t column, std::uint32_t code) {
    std::memcpy(view.at(row, column), &code, size_of(view.dtype));
  }

  std::vector<std::byte> bytes;
  TensorView view;
};

std::int64_t num_blocks(std::int64_t hidden) { return (hidden + 127) / 128; }

// The scale of one block, by plain loops.
float reference_scale(const Matrix& values, std::int64_t row, std::int64_t block, ScaleFormat format) {
  float amax = 1e-4F;
  for (std::int64_t column = block * 128; column < std::min(values.view.shape[1], block * 128 + 128); ++column) {
    const float magnitude = std::fabs(decode(values.view.dtype, values.code(row, column)));
    if (std::isfinite(magnitude) && magnitude > amax) amax = magnitude;
  }
  const float scale = amax / 448.0F;
  if (format == ScaleFormat::kFloat32) return scale;
  int exponent = 0;
  const float fraction = std::frexp(scale, &exponent);  // 0.5 <= fraction < 1
  return std::ldexp(1.0F, fraction == 0.5F ? exponent - 1 : exponent);
}

class Quantize : public EveryTarget {
 protected:
  // Values of very different sizes from block to block, with a few special ones.
  void fill(Matrix& values) {
    std::normal_distribution<float> normal;
    for (std::int64_t row = 0; row < values.view.shape[0]; ++row) {
      float size = 1.0F;
      for (std::int64_t column = 0; column < values.view.shape[1]; ++column) {
        if (column % 128 == 0) size = std::ldexp(1.0F, static_cast<int>(random_() % 40) - 26);
        float value = normal(random_) * size;
        switch (random_() % 100) {
          case 0: value = NAN; break;
          case 1: value = -INFINITY; break;
          case 2: value = 0.0F; break;
          case 3: value = -0.0F; break;
          case 4: value = 448.0F * size; break;
          default: break;
        }
        values.set_code(row, column, encode(values.view.dtype, value));
      }
    }
  }

  void expect_reference(const Matrix& values, ScaleFormat format, const Matrix& quantized, const Matrix& scales) {
    for (std::int64_t row = 0; row < values.view.shape[0]; ++row) {
      for (std::int64_t column = 0; column < values.view.shape[1]; ++column) {
        const float scale = reference_scale(values, row, column / 128, format);
        std::uint32_t expected_scale = std::bit_cast<std::uint32_t>(scale);
        if (format == ScaleFormat::kUE8M0) expected_scale = static_cast<std::uint32_t>(std::ilogb(scale) + 127);
        ASSERT_EQ(scales.code(row, column / 128), expected_scale) << "row " << row << " column " << column;
        const float quotient = decode(values.view.dtype, values.code(row, column)) / scale;
        ASSERT_EQ(quantized.code(row, column), float8().encode(quotient)) << "row " << row << " column " << column;
      }
    }
  }

  std::mt19937 random_{5};
};

TOKENYARD_ON_EVERY_TARGET(Quantize);

TEST_P(Quantize, agrees_with_plain_loops_for_any_shape_and_strides) {
  for (const ValueType& type : kValueTypes) {
    for (const ScaleFormat format : kScaleFormats) {
      for (const std::int64_t hidden : {1, 16, 100, 127, 128, 129, 260, 1000}) {
        const std::int64_t num_rows = 3;
        Matrix values(type.dtype, num_rows, hidden, hidden + 3, 1);
        Matrix quantized(DataType::kFloat8E4M3, num_rows, hidden, hidden + 5, 1);
        // Column-major, as grouped matrix products like them.
        const DataType scale_type = format == ScaleFormat::kUE8M0 ? DataType::kUE8M0 : DataType::kFloat32;
        Matrix scales(scale_type, num_rows, num_blocks(hidden), 1, num_rows + 1);
        fill(values);
        quantize(values.view, format, quantized.view, scales.view);
        expect_reference(values, format, quantized, scales);
        if (HasFatalFailure()) FAIL() << to_string(type.dtype) << " hidden " << hidden;
      }
    }
  }
}

TEST_P(Quantize, dequantize_multiplies_by_the_scale_and_rounds) {
  for (const ValueType& type : kValueTypes) {
    for (const DataType scale_type : {DataType::kFloat32, DataType::kUE8M0}) {
      const std::int64_t num_rows = 4;
      const std::int64_t hidden = 300;
      Matrix quantized(DataType::kFloat8E4M3, num_rows, hidden, hidden, 1);
      Matrix scales(scale_type, num_rows, num_blocks(hidden), 1, num_rows);
      Matrix values(type.dtype, num_rows, hidden, hidden + 7, 1);
      for (std::byte& code : quantized.bytes) code = static_cast<std::byte>(random_());
      for (std::int64_t row = 0; row < num_rows; ++row) {
        for (std::int64_t block = 0; block < num_blocks(hidden); ++block) {
          const auto exponent = static_cast<int>(random_() % 60);
          const float scale = std::ldexp(1.0F + static_cast<float>(random_() % 1000) / 1000, exponent - 30);
          const bool is_float = scale_type == DataType::kFloat32;
          scales.set_code(row, block,
                          is_float ? std::bit_cast<std::uint32_t>(scale) : static_cast<std::uint32_t>(exponent + 97));
        }
      }
      scales.set_code(1, 1, scale_type == DataType::kFloat32 ? 0xffc00001U : 255U);  // NaN
      dequantize(quantized.view, scales.view, values.view);
      for (std::int64_t row = 0; row < num_rows; ++row) {
        for (std::int64_t column = 0; column < hidden; ++column) {
          const std::uint32_t code = scales.code(row, column / 128);
          float scale = std::bit_cast<float>(code);
          if (scale_type == DataType::kUE8M0) scale = code == 255 ? NAN : std::ldexp(1.0F, static_cast<int>(code) - 127);
          const float product = decode_float8(static_cast<std::uint8_t>(quantized.code(row, column))) * scale;
          ASSERT_EQ(values.code(row, column), encode(type.dtype, product)) << "row " << row << " column " << column;
        }
      }
    }
  }
}

TEST_P(Quantize, every_code_decodes_and_every_quotient_rounds_exactly) {
  // One block of scale 1, since its largest value is 448, per 127 values.
  const std::vector<float> floats = float8().telling_floats();
  const auto num_rows = static_cast<std::int64_t>((floats.size() + 126) / 127);
  Matrix values(DataType::kFloat32, num_rows, 128, 128, 1);
  for (std::int64_t row = 0; row < num_rows; ++row) {
    values.set_code(row, 0, std::bit_cast<std::uint32_t>(448.0F));
    for (std::int64_t column = 1; column < 128; ++column) {
      const auto idx = static_cast<std::size_t>(row * 127 + column - 1);
      float value = idx < floats.size() ? floats[idx] : 0.0F;
      if (std::isfinite(value)) value = std::clamp(value, -448.0F, 448.0F);
      values.set_code(row, column, std::bit_cast<std::uint32_t>(value));
    }
  }
  Matrix quantized(DataType::kFloat8E4M3, num_rows, 128, 128, 1);
  Matrix scales(DataType::kFloat32, num_rows, 1, 1, 1);
  quantize(values.view, ScaleFormat::kFloat32, quantized.view, scales.view);
  Matrix decoded(DataType::kFloat32, num_rows, 128, 128, 1);
  dequantize(quantized.view, scales.view, decoded.view);
  for (std::int64_t row = 0; row < num_rows; ++row) {
    ASSERT_EQ(scales.code(row, 0), std::bit_cast<std::uint32_t>(1.0F));
    for (std::int64_t column = 0; column < 128; ++column) {
      const std::uint32_t code = quantized.code(row, column);
      ASSERT_EQ(code, float8().encode(std::bit_cast<float>(values.code(row, column))));
      ASSERT_EQ(decoded.code(row, column), encode(DataType::kFloat32, decode_float8(static_cast<std::uint8_t>(code))));
    }
  }
}

TEST_P(Quantize, non_finite_values_do_not_touch_the_scale) {
  Matrix values(DataType::kFloat32, 1, 128, 128, 1);
  for (std::int64_t column = 0; column < 128; ++column) values.set_code(0, column, std::bit_cast<std::uint32_t>(0.5F));
  values.set_code(0, 3, std::bit_cast<std::uint32_t>(-896.0F));
  values.set_code(0, 4, 0xffc12345U);  // NaN
  values.set_code(0, 5, std::bit_cast<std::uint32_t>(INFINITY));
  values.set_code(0, 127, std::bit_cast<std::uint32_t>(-INFINITY));
  Matrix quantized(DataType::kFloat8E4M3, 1, 128, 128, 1);
  Matrix scales(DataType::kUE8M0, 1, 1, 1, 1);
  quantize(values.view, ScaleFormat::kUE8M0, quantized.view, scales.view);
  EXPECT_EQ(scales.code(0, 0), 128U);  // 896 / 448 = 2
  EXPECT_EQ(quantized.code(0, 3), 0xfeU);
  EXPECT_EQ(quantized.code(0, 4), 0x7fU);
  EXPECT_EQ(quantized.code(0, 5), 0x7eU);
  EXPECT_EQ(quantized.code(0, 127), 0xfeU);
}

TEST_P(Quantize, blocks_of_zeros_get_the_least_scale) {
  Matrix values(DataType::kBFloat16, 1, 130, 130, 1);
  for (std::int64_t column = 0; column < 130; ++column) values.set_code(0, column, 0);
  Matrix quantized(DataType::kFloat8E4M3, 1, 130, 130, 1);
  Matrix scales(DataType::kFloat32, 1, 2, 2, 1);
  quantize(values.view, ScaleFormat::kFloat32, quantized.view, scales.view);
  for (std::int64_t block = 0; block < 2; ++block) {
    EXPECT_EQ(scales.code(0, block), std::bit_cast<std::uint32_t>(1e-4F / 448.0F));
  }
  for (std::int64_t column = 0; column < 130; ++column) ASSERT_EQ(quantized.code(0, column), 0U);
}

TEST(QuantizeArguments, zero_rows_need_no_memory) {
  const TensorView quantized(nullptr, DataType::kFloat8E4M3, {0, 256});
  const TensorView scales(nullptr, DataType::kFloat32, {0, 2});
  const TensorView values(nullptr, DataType::kFloat32, {0, 256});
  quantize(values, ScaleFormat::kFloat32, quantized, scales);
  dequantize(quantized, scales, values);
}

TEST(QuantizeArguments, mistakes_are_named) {
  std::vector<std::byte> memory(4096);
  void* data = memory.data();
  const TensorView values(data, DataType::kFloat32, {2, 130});
  const TensorView quantized(data, DataType::kFloat8E4M3, {2, 130});
  const TensorView scales(data, DataType::kFloat32, {2, 2});
  const auto expect = [](const TensorView& v, ScaleFormat format, const TensorView& q, const TensorView& s, const char* text) {
    expect_error([&] { quantize(v, format, q, s); }, ErrorCode::kInvalidArgument, text);
  };
  const ScaleFormat float32 = ScaleFormat::kFloat32;
  expect(TensorView(data, DataType::kFloat32, {260}), float32, quantized, scales, "values: 1 dimensions given, 2 expected");
  expect(TensorView(data, DataType::kInt32, {2, 130}), float32, quantized, scales,
         "values: elements of type int32 given, float32 or bfloat16 or float16 expected");
  expect(TensorView(nullptr, DataType::kFloat32, {2, 130}), float32, quantized, scales, "values: null pointer");
  expect(TensorView(data, DataType::kFloat32, {2, 130}, {1, 2}), float32, quantized, scales, "must be dense");
  expect(values, float32, TensorView(data, DataType::kFloat8E4M3, {2, 131}), scales,
         "quantized: shape [2, 131] given, [2, 130] expected");
  expect(values, float32, TensorView(data, DataType::kByte, {2, 130}), scales, "float8_e4m3 expected");
  expect(values, float32, quantized, TensorView(data, DataType::kFloat32, {2, 1}), "shape [2, 1] given, [2, 2] expected");
  expect(values, ScaleFormat::kUE8M0, quantized, scales, "scales: elements of type float32 given, ue8m0 expected");
  expect(values, float32, quantized, TensorView(data, DataType::kUE8M0, {2, 2}), "float32 expected");
  expect_error([&] { dequantize(quantized, TensorView(data, DataType::kFloat16, {2, 2}), values); },
               ErrorCode::kInvalidArgument, "scales: elements of type float16 given, float32 or ue8m0 expected");
}

}  // namespace
}  // namespace tokenyard::test
