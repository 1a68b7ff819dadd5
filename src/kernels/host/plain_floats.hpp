// Elements of a row of some floating point type, read and written one at a time: what the vectorised loops must agree with to
// the bit, and what finishes their tails. Rows may lie at any address.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "base/numeric.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::host {

// What rows of a type are computed in.
template <DataType kType>
using Number = std::conditional_t<kType == DataType::kFloat64, double, float>;

template <DataType kType>
Number<kType> load_plain(const std::byte* element) {
  const auto read = [element](auto code) {
    std::memcpy(&code, element, sizeof(code));
    return code;
  };
  if constexpr (kType == DataType::kFloat8E4M3) return numeric::float8_e4m3_to_float(read(std::uint8_t{}));
  if constexpr (kType == DataType::kFloat16) return numeric::float16_to_float(read(std::uint16_t{}));
  if constexpr (kType == DataType::kBFloat16) return numeric::bfloat16_to_float(read(std::uint16_t{}));
  if constexpr (kType == DataType::kFloat32) return read(float{});
  if constexpr (kType == DataType::kFloat64) return read(double{});
}

template <DataType kType>
void store_plain(std::byte* element, Number<kType> value) {
  const auto write = [element](auto code) { std::memcpy(element, &code, sizeof(code)); };
  if constexpr (kType == DataType::kFloat8E4M3) write(numeric::float_to_float8_e4m3(value));
  if constexpr (kType == DataType::kFloat16) write(numeric::float_to_float16(value));
  if constexpr (kType == DataType::kBFloat16) write(numeric::float_to_bfloat16(value));
  if constexpr (kType == DataType::kFloat32 || kType == DataType::kFloat64) write(numeric::canonical(value));
}

}  // namespace tokenyard::host
