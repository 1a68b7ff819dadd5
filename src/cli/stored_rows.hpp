// Float32 values as they are stored in tensors of another type, and back.
#pragma once

#include <cstdint>

#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cli {

// Writes `num_values` values as float32, bfloat16 or float16, rounded to nearest even.
void store_values(const float* values, std::int64_t num_values, DataType dtype, std::byte* stored);

// The inverse, exact.
void load_values(const std::byte* stored, DataType dtype, std::int64_t num_values, float* values);

}  // namespace tokenyard::cli
