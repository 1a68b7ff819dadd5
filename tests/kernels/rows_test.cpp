#include "tests/kernels/every_target.hpp"
// After the targets.
#include <algorithm>
#include <array>
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/host/rows.hpp"
#include "tests/base/reference_rounding.hpp"

namespace tokenyard::test {
namespace {

constexpr std::byte kPoison{0xa5};

std::vector<std::size_t> lengths() {
  std::vector<std::size_t> all(301);
  std::iota(all.begin(), all.end(), 0);
  for (const std::size_t more : {511, 512, 1000, 1023, 1025, 2055, 7168, 14336, 14391}) all.push_back(more);
  return all;
}

// Rows of a type as the tests see them: codes and what they stand for.
struct Format {
  DataType dtype;
  std::size_t num_bytes;
  std::uint32_t (*encode)(float);
  float (*decode)(std::uint32_t);
};

float decode_float16(std::uint32_t code) {
  static const ReferenceFormat reference = ReferenceFormat::float16();
  const std::uint32_t magnitude = code & 0x7fffU;
  if (magnitude > 0x7c00U) return NAN;
  const auto value = magnitude == 0x7c00U ? INFINITY : static_cast<float>(reference.magnitude(magnitude));
  return (code & 0x8000U) != 0 ? -value : value;
}

std::uint32_t encode_float16(float value) {
  static const ReferenceFormat reference = ReferenceFormat::float16();
  return reference.encode(value);
}

float decode_bfloat16(std::uint32_t code) { return std::bit_cast<float>(code << 16); }

std::uint32_t encode_bfloat16(float value) {
  static const ReferenceFormat reference = ReferenceFormat::bfloat16();
  return reference.encode(value);
}

float decode_float32(std::uint32_t code) { return std::bit_cast<float>(code); }
std::uint32_t encode_float32(float value) { return std::isnan(value) ? 0x7fffffffU : std::bit_cast<std::uint32_t>(value); }

const Format kFormats[] = {{DataType::kFloat16, 2, encode_float16, decode_float16},
                           {DataType::kBFloat16, 2, encode_bfloat16, decode_bfloat16},
                           {DataType::kFloat32, 4, encode_float32, decode_float32}};

std::uint32_t load_code(const std::byte* row, std::size_t idx, std::size_t num_bytes) {
  std::uint32_t code = 0;
  std::memcpy(&code, row + idx * num_bytes, num_bytes);
  return code;
}

bool same(float left, float right) {
  return (std::isnan(left) && std::isnan(right)) || std::bit_cast<std::uint32_t>(left) == std::bit_cast<std::uint32_t>(right);
}

// Memory at a chosen distance from a line's start, with guard bytes around the row.
class GuardedRow {
 public:
  GuardedRow(std::size_t num_bytes, std::size_t misalignment) : num_bytes_(num_bytes), bytes_(num_bytes + 256, kPoison) {
    const std::size_t to_line = -reinterpret_cast<std::uintptr_t>(bytes_.data() + 64) % 64;
    row_ = bytes_.data() + 64 + to_line + misalignment;
  }

  std::byte* row() { return row_; }

  bool is_intact_around() const {
    const std::byte* end = row_ + num_bytes_;
    return std::all_of(bytes_.data(), static_cast<const std::byte*>(row_), is_poison) &&
           std::all_of(end, bytes_.data() + bytes_.size(), is_poison);
  }

 private:
  static bool is_poison(std::byte byte) { return byte == kPoison; }

  std::size_t num_bytes_;
  std::vector<std::byte> bytes_;
  std::byte* row_;
};

class Rows : public EveryTarget {
 protected:
  // Random elements; all exponents, so infinities, NaNs and denormals as well.
  void fill(std::byte* row, std::size_t num_bytes) {
    for (std::size_t idx = 0; idx < num_bytes; ++idx) row[idx] = static_cast<std::byte>(random_());
  }

  std::mt19937 random_{11};
};

TOKENYARD_ON_EVERY_TARGET(Rows);

TEST_P(Rows, copy_row_copies_every_length_and_nothing_beside_it) {
  for (const std::size_t num_bytes : lengths()) {
    for (const std::size_t misalignment : {0, 16, 48, 7}) {
      for (const std::size_t source_misalignment : {0, 5}) {
        GuardedRow source(num_bytes, source_misalignment);
        fill(source.row(), num_bytes);
        GuardedRow destination(num_bytes, misalignment);
        host::copy_row(destination.row(), source.row(), num_bytes);
        host::finish_copies();
        ASSERT_EQ(std::memcmp(destination.row(), source.row(), num_bytes), 0) << num_bytes << " bytes at " << misalignment;
        ASSERT_TRUE(destination.is_intact_around()) << num_bytes << " bytes at " << misalignment;
      }
    }
  }
}

TEST_P(Rows, add_rows_adds_each_element) {
  for (const Format& format : kFormats) {
    for (const std::size_t num_elements : lengths()) {
      GuardedRow row(num_elements * format.num_bytes, num_elements % 5);
      fill(row.row(), num_elements * format.num_bytes);
      std::vector<float> sum(num_elements + 8, 3.5F);
      for (std::size_t idx = 0; idx < num_elements; ++idx)
        sum[idx] = std::bit_cast<float>(static_cast<std::uint32_t>(random_()));
      std::vector<float> expected = sum;
      for (std::size_t idx = 0; idx < num_elements; ++idx) {
        expected[idx] += format.decode(load_code(row.row(), idx, format.num_bytes));
      }
      const std::byte* rows[] = {row.row()};
      host::add_rows(sum.data(), rows, nullptr, 1, format.dtype, num_elements);
      for (std::size_t idx = 0; idx < sum.size(); ++idx) {
        ASSERT_TRUE(same(sum[idx], expected[idx])) << to_string(format.dtype) << " element " << idx << " of " << num_elements;
      }
    }
  }
}

TEST_P(Rows, add_rows_rounds_the_product_before_it_adds) {
  std::normal_distribution<float> normal;
  int num_told_apart = 0;
  for (const Format& format : kFormats) {
    for (const std::size_t num_elements : lengths()) {
      GuardedRow row(num_elements * format.num_bytes, num_elements % 3);
      std::vector<float> sum(num_elements + 8, 3.5F);
      std::vector<float> expected = sum;
      const float factor = normal(random_);
      for (std::size_t idx = 0; idx < num_elements; ++idx) {
        const std::uint32_t code = format.encode(normal(random_));
        std::memcpy(row.row() + idx * format.num_bytes, &code, format.num_bytes);
        sum[idx] = normal(random_);
        const float element = format.decode(code);
        const volatile float product = element * factor;
        expected[idx] = sum[idx] + product;
        if (expected[idx] != std::fma(element, factor, sum[idx])) ++num_told_apart;
      }
      const std::byte* rows[] = {row.row()};
      host::add_rows(sum.data(), rows, &factor, 1, format.dtype, num_elements);
      for (std::size_t idx = 0; idx < sum.size(); ++idx) {
        ASSERT_TRUE(same(sum[idx], expected[idx])) << to_string(format.dtype) << " element " << idx << " of " << num_elements;
      }
    }
  }
  EXPECT_GT(num_told_apart, 1000) << "the values would not show a fused multiply-add";
}

TEST_P(Rows, add_rows_adds_one_row_after_the_other) {
  std::normal_distribution<float> normal;
  for (const Format& format : kFormats) {
    for (const std::size_t num_elements : {1UL, 15UL, 64UL, 257UL}) {
      for (const int num_rows : {0, 2, 9, 34}) {
        std::vector<std::vector<std::byte>> contents(num_rows, std::vector<std::byte>(num_elements * format.num_bytes));
        std::vector<const std::byte*> rows;
        std::vector<float> factors;
        std::vector<float> sum(num_elements, 0.25F);
        std::vector<float> expected = sum;
        for (std::vector<std::byte>& row : contents) {
          rows.push_back(row.data());
          factors.push_back(normal(random_));
          for (std::size_t idx = 0; idx < num_elements; ++idx) {
            const std::uint32_t code = format.encode(normal(random_));
            std::memcpy(row.data() + idx * format.num_bytes, &code, format.num_bytes);
            const volatile float product = format.decode(code) * factors.back();
            expected[idx] += product;
          }
        }
        host::add_rows(sum.data(), rows.data(), factors.data(), num_rows, format.dtype, num_elements);
        for (std::size_t idx = 0; idx < num_elements; ++idx) {
          ASSERT_TRUE(same(sum[idx], expected[idx])) << to_string(format.dtype) << " " << idx << " of " << num_rows << " rows";
        }
      }
    }
  }
}

TEST_P(Rows, every_code_is_read_exactly) {
  for (const Format& format : kFormats) {
    if (format.num_bytes != 2) continue;
    std::vector<std::uint16_t> codes(65'536);
    std::iota(codes.begin(), codes.end(), std::uint16_t{0});
    std::vector<float> sum(codes.size(), -0.0F);
    const auto* row = reinterpret_cast<const std::byte*>(codes.data());
    host::add_rows(sum.data(), &row, nullptr, 1, format.dtype, codes.size());
    for (std::size_t code = 0; code < codes.size(); ++code) {
      ASSERT_TRUE(same(sum[code], format.decode(static_cast<std::uint32_t>(code)))) << to_string(format.dtype) << " " << code;
    }
  }
}

TEST_P(Rows, round_row_rounds_values_and_midpoints_to_nearest_even) {
  const ReferenceFormat references[] = {ReferenceFormat::float16(), ReferenceFormat::bfloat16()};
  for (const ReferenceFormat& reference : references) {
    const std::vector<float> floats = reference.telling_floats();
    for (const Format& format : kFormats) {
      GuardedRow row(floats.size() * format.num_bytes, 16);
      host::round_row(row.row(), format.dtype, floats.data(), floats.size());
      host::finish_copies();
      for (std::size_t idx = 0; idx < floats.size(); ++idx) {
        ASSERT_EQ(load_code(row.row(), idx, format.num_bytes), format.encode(floats[idx]))
            << to_string(format.dtype) << " " << std::hexfloat << floats[idx];
      }
    }
  }
}

TEST_P(Rows, round_row_ignores_the_rounding_mode_of_the_thread) {
  for (const Format& format : kFormats) {
    const std::vector<float> floats = ReferenceFormat::float16().telling_floats();
    GuardedRow row(floats.size() * format.num_bytes, 0);
    ASSERT_EQ(std::fesetround(FE_UPWARD), 0);
    host::round_row(row.row(), format.dtype, floats.data(), floats.size());
    host::finish_copies();
    std::fesetround(FE_TONEAREST);
    for (std::size_t idx = 0; idx < floats.size(); ++idx) {
      ASSERT_EQ(load_code(row.row(), idx, format.num_bytes), format.encode(floats[idx]))
          << to_string(format.dtype) << " " << std::hexfloat << floats[idx];
    }
  }
}

TEST_P(Rows, round_row_writes_every_length_and_nothing_beside_it) {
  for (const Format& format : kFormats) {
    for (const std::size_t num_elements : lengths()) {
      for (const std::size_t misalignment : {0, 16, 2, 5}) {
        std::vector<float> sum(num_elements);
        for (float& value : sum) value = std::bit_cast<float>(static_cast<std::uint32_t>(random_()));
        GuardedRow row(num_elements * format.num_bytes, misalignment);
        host::round_row(row.row(), format.dtype, sum.data(), num_elements);
        host::finish_copies();
        for (std::size_t idx = 0; idx < num_elements; ++idx) {
          ASSERT_EQ(load_code(row.row(), idx, format.num_bytes), format.encode(sum[idx]))
              << to_string(format.dtype) << " element " << idx << " of " << num_elements << " at " << misalignment;
        }
        ASSERT_TRUE(row.is_intact_around()) << to_string(format.dtype) << " " << num_elements << " at " << misalignment;
      }
    }
  }
}

TEST_P(Rows, sum_rows_rounds_the_sum_of_scaled_rows_and_writes_nothing_beside_it) {
  std::normal_distribution<float> normal;
  for (const Format& format : kFormats) {
    for (const std::size_t num_elements : lengths()) {
      for (const std::size_t misalignment : {0, 16, 2, 5}) {
        const bool scaled = random_() % 2 == 0;
        const host::Stores stores = random_() % 2 == 0 ? host::Stores::kStreamed : host::Stores::kCached;
        const auto num_rows = static_cast<int>(random_() % 5);
        std::vector<std::vector<std::byte>> contents(num_rows, std::vector<std::byte>(num_elements * format.num_bytes));
        std::vector<const std::byte*> rows;
        std::vector<float> factors;
        std::vector<float> sum(num_elements, 0.0F);
        for (std::vector<std::byte>& content : contents) {
          fill(content.data(), content.size());
          rows.push_back(content.data());
          factors.push_back(scaled ? normal(random_) : 1.0F);
          for (std::size_t idx = 0; idx < num_elements; ++idx) {
            const volatile float product = format.decode(load_code(content.data(), idx, format.num_bytes)) * factors.back();
            sum[idx] += product;
          }
        }
        GuardedRow row(num_elements * format.num_bytes, misalignment);
        host::sum_rows(row.row(), rows.data(), scaled ? factors.data() : nullptr, num_rows, format.dtype, num_elements, stores);
        host::finish_copies();
        for (std::size_t idx = 0; idx < num_elements; ++idx) {
          ASSERT_EQ(load_code(row.row(), idx, format.num_bytes), format.encode(sum[idx]))
              << to_string(format.dtype) << " element " << idx << " of " << num_elements << " in " << num_rows << " rows at "
              << misalignment;
        }
        ASSERT_TRUE(row.is_intact_around()) << to_string(format.dtype) << " " << num_elements << " at " << misalignment;
      }
    }
  }
}

TEST_P(Rows, sum_rows_multiplies_rounds_and_then_adds) {
  std::normal_distribution<float> normal;
  int num_told_apart = 0;
  for (const Format& format : kFormats) {
    constexpr std::size_t kNumElements = 1000;
    std::vector<std::vector<std::byte>> contents(2, std::vector<std::byte>(kNumElements * format.num_bytes));
    const std::array rows{static_cast<const std::byte*>(contents[0].data()), static_cast<const std::byte*>(contents[1].data())};
    const std::array factors{normal(random_), normal(random_)};
    std::vector<float> fused(kNumElements, 0.0F);
    std::vector<float> sum(kNumElements, 0.0F);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      for (std::size_t idx = 0; idx < kNumElements; ++idx) {
        const std::uint32_t code = format.encode(normal(random_));
        std::memcpy(contents[i].data() + idx * format.num_bytes, &code, format.num_bytes);
        const volatile float product = format.decode(code) * factors[i];
        sum[idx] += product;
        fused[idx] = std::fma(format.decode(code), factors[i], fused[idx]);
      }
    }
    std::vector<std::byte> result(kNumElements * format.num_bytes);
    host::sum_rows(result.data(), rows.data(), factors.data(), 2, format.dtype, kNumElements);
    host::finish_copies();
    for (std::size_t idx = 0; idx < kNumElements; ++idx) {
      ASSERT_EQ(load_code(result.data(), idx, format.num_bytes), format.encode(sum[idx])) << to_string(format.dtype);
      if (format.encode(sum[idx]) != format.encode(fused[idx])) ++num_told_apart;
    }
  }
  EXPECT_GT(num_told_apart, 100) << "the values would not show a fused multiply-add";
}

TEST_P(Rows, sum_rows_may_write_over_one_of_its_rows) {
  constexpr std::size_t kNumElements = 777;
  for (const Format& format : kFormats) {
    std::vector<std::byte> total(kNumElements * format.num_bytes);
    std::vector<std::byte> other(total.size());
    fill(total.data(), total.size());
    fill(other.data(), other.size());
    const std::array rows{static_cast<const std::byte*>(other.data()), static_cast<const std::byte*>(total.data())};
    std::vector<std::byte> expected(total.size());
    host::sum_rows(expected.data(), rows.data(), nullptr, 2, format.dtype, kNumElements);
    host::sum_rows(total.data(), rows.data(), nullptr, 2, format.dtype, kNumElements);
    host::finish_copies();
    EXPECT_EQ(total, expected) << to_string(format.dtype);
  }
}

TEST_P(Rows, float64_rows_are_summed_and_rounded_in_float64) {
  std::normal_distribution<double> normal;
  const auto nan = std::bit_cast<double>(0xfff8000000000123U);
  for (const std::size_t num_elements : lengths()) {
    std::vector<double> left(num_elements);
    std::vector<double> right(num_elements);
    for (double& value : left) value = random_() % 16 == 0 ? nan : normal(random_);
    for (double& value : right) value = normal(random_);
    const std::array rows{reinterpret_cast<const std::byte*>(left.data()), reinterpret_cast<const std::byte*>(right.data())};
    const std::array factors{static_cast<float>(normal(random_)), static_cast<float>(normal(random_))};
    for (const float* given : {static_cast<const float*>(nullptr), factors.data()}) {
      GuardedRow sum(num_elements * sizeof(double), num_elements % 2 == 0 ? 16 : 3);
      host::sum_rows(sum.row(), rows.data(), given, 2, DataType::kFloat64, num_elements);
      host::finish_copies();
      for (std::size_t idx = 0; idx < num_elements; ++idx) {
        const volatile double left_term = given == nullptr ? left[idx] : left[idx] * static_cast<double>(factors[0]);
        const volatile double right_term = given == nullptr ? right[idx] : right[idx] * static_cast<double>(factors[1]);
        const double expected = left_term + right_term;
        std::uint64_t code = 0;
        std::memcpy(&code, sum.row() + idx * sizeof(code), sizeof(code));
        ASSERT_EQ(code, std::isnan(expected) ? 0x7fffffffffffffffU : std::bit_cast<std::uint64_t>(expected))
            << "element " << idx << " of " << num_elements;
      }
      ASSERT_TRUE(sum.is_intact_around()) << num_elements;
    }
  }
}

}  // namespace
}  // namespace tokenyard::test
