// The floating point types of rows, one element at a time: read as a double, and rounded to from a float or double.
#pragma once

#include <cstddef>
#include <cstdint>

namespace reference {

enum class Number { kFloat16, kBFloat16, kFloat32, kFloat64 };

std::size_t bytes_of(Number number);

// The element at `bytes`, exactly (every type fits into a double). Float64 is read as itself.
double read(Number number, const std::byte* bytes);

// The nearest element, the even one of two; what is too large becomes infinity, and every NaN the positive one with all
// mantissa bits set. Sums of all types but float64 are floats, which `value` holds exactly.
void write(Number number, double value, std::byte* bytes);

}  // namespace reference
