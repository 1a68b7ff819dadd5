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
  if constexpr (kType == DataType::kFloat16 || kType == DataType::kBFloat16) {
    std::uint16_t code;
    std::memcpy(&code, element, sizeof(code));
    return kType == DataType::kFloat16 ? numeric::float16_to_float(code) : numeric::bfloat16_to_float(code);
  } else {
    Number<kType> value;
    std::memcpy(&value, element, sizeof(value));
    return value;
  }
}

template <DataType kType>
void store_plain(std::byte* element, Number<kType> value) {
  if constexpr (kType == DataType::kFloat16 || kType == DataType::kBFloat16) {
    const std::uint16_t code =
        kType == DataType::kFloat16 ? numeric::float_to_float16(value) : numeric::float_to_bfloat16(value);
    std::memcpy(element, &code, sizeof(code));
  } else {
    value = numeric::canonical(value);
    std::memcpy(element, &value, sizeof(value));
  }
}

}  // namespace tokenyard::host
