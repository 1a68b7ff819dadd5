#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/numeric.hpp"
#include "kernels/cuda/quantize.hpp"
#include "tests/kernels/cuda/gpu_ranks.hpp"
#include "tests/kernels/cuda/seeds.hpp"
#include "tests/support/random_bits.hpp"

namespace tokenyard::test {
namespace {

void store_rounded(DataType dtype, float value, std::byte* element) {
  if (dtype == DataType::kFloat32) {
    std::memcpy(element, &value, sizeof(value));
    return;
  }
  const std::uint16_t code = dtype == DataType::kFloat16 ? numeric::float_to_float16(value) : numeric::float_to_bfloat16(value);
  std::memcpy(element, &code, sizeof(code));
}

// Blocks of very different sizes. In half of them are only values of few bits, of which many fall between two codes when the
// scale is a power of two; in some any bit pattern may occur: NaNs of all kinds, infinities, denormals.
class Values {
 public:
  Values(RandomBits& random, DataType dtype) : random_(random), dtype_(dtype) {}

  void next_block() {
    size_ = std::ldexp(1.0, static_cast<int>(random_.from(-40, 12)));
    few_bits_ = random_.one_in(2);
    one_in_specials_ = random_.one_in(3) ? 4 : random_.pick({20, 1'000'000});
    any_bits_ = random_.one_in(6);
  }

  void draw(std::byte* element) {
    if (random_.one_in(one_in_specials_)) return draw_special(element);
    const std::int64_t mantissa = few_bits_ ? random_.from(-32, 32) << 19 : random_.from(-(1 << 24), 1 << 24);
    store_rounded(dtype_, static_cast<float>(size_ * std::ldexp(static_cast<double>(mantissa), -24)), element);
  }

 private:
  void draw_special(std::byte* element) {
    if (any_bits_) {
      const std::uint64_t bits = random_.next();
      std::memcpy(element, &bits, size_of(dtype_));
      return;
    }
    const float infinity = std::bit_cast<float>(numeric::kInfinityFloat32);
    const std::uint32_t negative_nan = 0xff812345U;
    store_rounded(dtype_,
                  random_.pick({infinity, -infinity, std::bit_cast<float>(numeric::kNanFloat32), 0.0F, -0.0F, 1e-42F, -1e-40F,
                                1e-4F, -6e-8F}),
                  element);
    if (dtype_ == DataType::kFloat32 && random_.one_in(8)) std::memcpy(element, &negative_nan, sizeof(negative_nan));
  }

  RandomBits& random_;
  DataType dtype_;
  double size_ = 1.0;
  bool few_bits_ = false;
  int one_in_specials_ = 1;
  bool any_bits_ = false;
};

// How a matrix lies in its memory; strides and offset in elements.
struct Strides {
  std::int64_t offset = 0;
  std::int64_t row = 0;
  std::int64_t column = 1;
  std::int64_t num_elements = 0;  // of the memory
};

Strides dense_rows(RandomBits& random, std::int64_t num_rows, std::int64_t num_columns, std::int64_t alignment) {
  Strides strides{.row = num_columns};
  if (random.one_in(2)) strides.row += random.from(0, 40);
  if (random.one_in(4)) strides.offset = random.from(0, 15);
  if (random.one_in(2)) {
    strides.row = (strides.row + alignment - 1) / alignment * alignment;
    strides.offset = strides.offset / alignment * alignment;
  }
  strides.num_elements = strides.offset + num_rows * strides.row + 16;
  return strides;
}

// Row-major with gaps, or column-major.
Strides any_strides(RandomBits& random, std::int64_t num_rows, std::int64_t num_columns) {
  Strides strides{.offset = random.from(0, 3)};
  if (random.one_in(2)) {
    strides.column = random.from(1, 3);
    strides.row = num_columns * strides.column + random.from(0, 5);
  } else {
    strides.row = random.from(1, 2);
    strides.column = num_rows * strides.row + random.from(0, 5);
  }
  strides.num_elements = strides.offset + num_rows * strides.row + num_columns * strides.column + 16;
  return strides;
}

TensorView view(std::byte* memory, DataType dtype, std::int64_t num_rows, std::int64_t num_columns, const Strides& strides) {
  return {memory + strides.offset * static_cast<std::int64_t>(size_of(dtype)),
          dtype,
          {num_rows, num_columns},
          {strides.row, strides.column}};
}

void quantize_as_the_host_does(std::uint64_t seed) {
  const GpuRanks gpus(1, 1);
  gpus.select(0);
  RandomBits random(seed);
  const DataType dtype = random.pick({DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16});
  const ScaleFormat format = random.pick({ScaleFormat::kFloat32, ScaleFormat::kFloat32PowerOf2, ScaleFormat::kUE8M0});
  const std::int64_t num_rows = random.one_in(10) ? 0 : random.any_magnitude(1, 400);
  std::int64_t num_columns = random.one_in(20) ? 0 : random.any_magnitude(1, 3'000);
  if (random.one_in(3)) num_columns = (num_columns + 127) / 128 * 128;
  const std::int64_t num_blocks = (num_columns + kScaleBlock - 1) / kScaleBlock;
  const int num_sms = static_cast<int>(random.from(1, 132));
  SCOPED_TRACE(testing::Message() << "seed " << seed << ": " << num_rows << " rows of " << num_columns << " "
                                  << to_string(dtype) << ", scale format " << static_cast<int>(format) << ", SMs " << num_sms);
  const DataType scale_type = format == ScaleFormat::kUE8M0 ? DataType::kUE8M0 : DataType::kFloat32;
  const Strides values_strides = dense_rows(random, num_rows, num_columns, 8);
  const Strides quantized_strides = dense_rows(random, num_rows, num_columns, 8);
  const Strides scales_strides = any_strides(random, num_rows, num_blocks);

  std::vector<std::byte> values(values_strides.num_elements * size_of(dtype));
  for (std::byte& byte : values) byte = static_cast<std::byte>(random.next());  // gaps, too, which must not be read
  const TensorView host_values = view(values.data(), dtype, num_rows, num_columns, values_strides);
  Values source(random, dtype);
  for (std::int64_t row = 0; row < num_rows; ++row) {
    for (std::int64_t column = 0; column < num_columns; ++column) {
      if (column % kScaleBlock == 0) source.next_block();
      source.draw(host_values.at(row, column));
    }
  }
  std::vector<std::byte> quantized(quantized_strides.num_elements, std::byte{0x5a});
  std::vector<std::byte> scales(scales_strides.num_elements * size_of(scale_type), std::byte{0x5a});
  DeviceArray<std::byte> device_values(values);
  DeviceArray<std::byte> device_quantized(quantized);
  DeviceArray<std::byte> device_scales(scales);
  quantize(host_values, format, view(quantized.data(), DataType::kFloat8E4M3, num_rows, num_columns, quantized_strides),
           view(scales.data(), scale_type, num_rows, num_blocks, scales_strides));

  cuda::quantize({.values = view(device_values.data(), dtype, num_rows, num_columns, values_strides),
                  .format = format,
                  .quantized = view(device_quantized.data(), DataType::kFloat8E4M3, num_rows, num_columns, quantized_strides),
                  .scales = view(device_scales.data(), scale_type, num_rows, num_blocks, scales_strides)},
                 {.stream = gpus.stream(0), .num_sms = num_sms});
  gpus.finish();
  const std::vector<std::byte> scale_bytes = device_scales.contents();
  for (std::size_t i = 0; i < scales.size(); ++i) ASSERT_EQ(scale_bytes[i], scales[i]) << "byte " << i << " of the scales";
  const std::vector<std::byte> codes = device_quantized.contents();
  for (std::size_t i = 0; i < quantized.size(); ++i) {
    ASSERT_EQ(codes[i], quantized[i]) << "row "
                                      << (static_cast<std::int64_t>(i) - quantized_strides.offset) /
                                             std::max<std::int64_t>(1, quantized_strides.row)
                                      << ", byte " << i << " of the quantized values";
  }
}

TEST(cuda_quantize, values_and_scales_have_the_bits_of_the_hosts) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(150)) {
    quantize_as_the_host_does(seed);
    if (HasFatalFailure()) return;
  }
}

// Every float16 and bfloat16, each in a block whose scale is 1, 1/448 of its own magnitude, or that of a large neighbour.
TEST(cuda_quantize, every_16_bit_float_becomes_the_hosts_code) {
  SKIP_WITHOUT_GPUS(1);
  const GpuRanks gpus(1, 1);
  gpus.select(0);
  for (const DataType dtype : {DataType::kFloat16, DataType::kBFloat16}) {
    for (const float neighbour : {448.0F, 0.0F, 777.0F, 3.0F}) {
      constexpr std::int64_t kNumColumns = 128;
      constexpr std::int64_t kNumRows = 65'536 / 64;
      std::vector<std::uint16_t> values(kNumRows * kNumColumns);
      for (std::int64_t i = 0; i < kNumRows * kNumColumns; ++i) {
        store_rounded(dtype, neighbour, reinterpret_cast<std::byte*>(&values[i]));
        if (i % 2 == 0) values[i] = static_cast<std::uint16_t>(i / 2);
      }
      std::vector<std::byte> quantized(values.size());
      std::vector<float> scales(kNumRows);
      quantize({values.data(), dtype, {kNumRows, kNumColumns}}, ScaleFormat::kFloat32,
               {quantized.data(), DataType::kFloat8E4M3, {kNumRows, kNumColumns}}, tensor(scales.data(), {kNumRows, 1}));
      const DeviceArray<std::uint16_t> device_values(values);
      const DeviceArray<std::byte> device_quantized(quantized.size());
      const DeviceArray<float> device_scales(scales.size());
      cuda::quantize({.values = {device_values.data(), dtype, {kNumRows, kNumColumns}},
                      .format = ScaleFormat::kFloat32,
                      .quantized = {device_quantized.data(), DataType::kFloat8E4M3, {kNumRows, kNumColumns}},
                      .scales = tensor(device_scales.data(), {kNumRows, 1})},
                     {.stream = gpus.stream(0), .num_sms = 8});
      gpus.finish();
      ASSERT_EQ(device_scales.contents(), scales) << to_string(dtype);
      ASSERT_TRUE(device_quantized.contents() == quantized) << to_string(dtype) << ", beside " << neighbour;
    }
  }
}

TEST(cuda_quantize, other_types_than_floats_are_refused) {
  SKIP_WITHOUT_GPUS(1);
  EXPECT_THROW(cuda::quantize({.values = TensorView(nullptr, DataType::kInt32, {0, 4}),
                               .quantized = TensorView(nullptr, DataType::kFloat8E4M3, {0, 4}),
                               .scales = TensorView(nullptr, DataType::kFloat32, {0, 1})},
                              {.num_sms = 1}),
               Error);
}

}  // namespace
}  // namespace tokenyard::test
