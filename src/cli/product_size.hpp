// How large a matrix product must be to take a stated time.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace tokenyard::cli {

// [rows, kProductWidth] times [kProductWidth, kProductWidth].
inline constexpr std::int64_t kProductWidth = 8192;
inline constexpr std::int64_t kProductRowStep = 256;
inline constexpr std::int64_t kMostProductRows = 1 << 15;
// At least, in a row with others: 1 ms, and room for one that begins on a GPU at rest, whose clocks are higher.
inline constexpr double kProductMicroseconds = 1'200;

// The next number of rows to try where `num_rows` took `microseconds`: the same where that is long enough, or no more can be
// had. A product of more rows takes longer in proportion, but for its last wave of tiles.
inline std::int64_t next_product_rows(std::int64_t num_rows, double microseconds) {
  if (microseconds >= kProductMicroseconds) return num_rows;
  constexpr double kMargin = 1.1;
  constexpr double kMostGrowth = 16;  // a short time says little
  const double growth = std::min(kMargin * kProductMicroseconds / std::max(microseconds, 1e-3), kMostGrowth);
  const auto wanted = static_cast<std::int64_t>(std::ceil(static_cast<double>(num_rows) * growth));
  const std::int64_t rounded = (wanted + kProductRowStep - 1) / kProductRowStep * kProductRowStep;
  return std::min(std::max(rounded, num_rows + kProductRowStep), kMostProductRows);
}

}  // namespace tokenyard::cli
