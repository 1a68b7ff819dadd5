#include "cli/payload.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "cli/stored_rows.hpp"

namespace tokenyard::cli {
namespace {

TEST(payload, rows_follow_from_their_seed_alone) {
  for (DataType dtype : {DataType::kByte, DataType::kFloat8E4M3, DataType::kFloat16, DataType::kBFloat16, DataType::kFloat32,
                         DataType::kFloat64}) {
    SCOPED_TRACE(to_string(dtype));
    std::vector<std::byte> row(52);
    write_payload(5, dtype, row.data(), row.size());
    EXPECT_TRUE(is_payload(5, dtype, row.data(), row.size()));
    EXPECT_FALSE(is_payload(6, dtype, row.data(), row.size()));
  }
}

TEST(payload, every_changed_byte_is_noticed) {
  std::vector<std::byte> row(52);
  write_payload(5, DataType::kBFloat16, row.data(), row.size());
  for (std::byte& byte : row) {
    byte ^= std::byte{1};
    EXPECT_FALSE(is_payload(5, DataType::kBFloat16, row.data(), row.size()));
    byte ^= std::byte{1};
  }
}

TEST(payload, no_byte_beyond_the_row_is_written) {
  std::array<std::byte, 16> memory{};
  write_payload(5, DataType::kByte, memory.data(), 13);
  EXPECT_EQ(memory[13], std::byte{0});
  EXPECT_EQ(memory[15], std::byte{0});
}

TEST(payload, numbers_are_moderate_and_of_both_signs) {
  for (DataType dtype : {DataType::kFloat16, DataType::kBFloat16, DataType::kFloat32}) {
    SCOPED_TRACE(to_string(dtype));
    std::vector<std::byte> row(1000 * size_of(dtype));
    std::vector<float> values(1000);
    write_payload(9, dtype, row.data(), row.size());
    load_values(row.data(), dtype, 1000, values.data());
    int num_negative = 0;
    for (float value : values) {
      EXPECT_GE(std::fabs(value), 0x1p-7F);
      EXPECT_LT(std::fabs(value), 2.0F);
      num_negative += value < 0 ? 1 : 0;
    }
    EXPECT_GT(num_negative, 400);
    EXPECT_LT(num_negative, 600);
  }
  std::vector<double> values(1000);
  write_payload(9, DataType::kFloat64, reinterpret_cast<std::byte*>(values.data()), values.size() * sizeof(double));
  for (double value : values) EXPECT_TRUE(std::fabs(value) >= 0x1p-7 && std::fabs(value) < 2) << value;
}

}  // namespace
}  // namespace tokenyard::cli
