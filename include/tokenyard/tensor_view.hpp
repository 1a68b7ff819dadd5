// A tensor that belongs to somebody else: pointer, element type, shape and strides.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <stdexcept>
#include <type_traits>

namespace tokenyard {

enum class DataType : std::uint8_t {
  kByte,        // opaque: moved, never computed with
  kFloat8E4M3,  // 1-4-3, no infinities, NaN is 0x7f (the "fn" variant)
  kUE8M0,       // a power of two as its biased exponent: 2^(byte - 127); 255 is NaN
  kFloat16,
  kBFloat16,
  kFloat32,
  kFloat64,
  kInt32,
  kInt64,
};

constexpr std::size_t size_of(DataType dtype) noexcept {
  switch (dtype) {
    case DataType::kByte:
    case DataType::kFloat8E4M3:
    case DataType::kUE8M0: return 1;
    case DataType::kFloat16:
    case DataType::kBFloat16: return 2;
    case DataType::kFloat32:
    case DataType::kInt32: return 4;
    case DataType::kFloat64:
    case DataType::kInt64: return 8;
  }
  return 0;
}

// "bfloat16" and the like, the spelling of the command line.
const char* to_string(DataType dtype) noexcept;

// The element type that a plain C++ type stands for; 16-bit and 8-bit floats are named explicitly.
template <class T>
constexpr DataType data_type_of() noexcept {
  using U = std::remove_cv_t<T>;
  if constexpr (std::is_same_v<U, float>) return DataType::kFloat32;
  if constexpr (std::is_same_v<U, double>) return DataType::kFloat64;
  if constexpr (std::is_same_v<U, std::int32_t>) return DataType::kInt32;
  if constexpr (std::is_same_v<U, std::int64_t>) return DataType::kInt64;
  return DataType::kByte;
}

// Void is `void` or `const void`. Strides count elements, not bytes, and may be anything, negative included. An empty view
// (data == nullptr, num_dims == 0) stands for "not given".
template <class Void>
struct BasicTensorView {
  static constexpr int kMaxDims = 4;
  using Byte = std::conditional_t<std::is_const_v<Void>, const std::byte, std::byte>;

  Void* data = nullptr;
  DataType dtype = DataType::kByte;
  int num_dims = 0;
  std::array<std::int64_t, kMaxDims> shape{};
  std::array<std::int64_t, kMaxDims> strides{};

  BasicTensorView() = default;

  // Row-major and dense.
  BasicTensorView(Void* data_in, DataType dtype_in, std::initializer_list<std::int64_t> shape_in)
      : data(data_in), dtype(dtype_in), num_dims(static_cast<int>(shape_in.size())) {
    if (num_dims > kMaxDims) throw std::invalid_argument("a TensorView has at most 4 dimensions");
    int dim = 0;
    for (std::int64_t extent : shape_in) shape[dim++] = extent;
    std::int64_t stride = 1;
    for (dim = num_dims - 1; dim >= 0; --dim) {
      strides[dim] = stride;
      stride *= shape[dim];
    }
  }

  BasicTensorView(Void* data_in, DataType dtype_in, std::initializer_list<std::int64_t> shape_in,
                  std::initializer_list<std::int64_t> strides_in)
      : BasicTensorView(data_in, dtype_in, shape_in) {
    if (strides_in.size() != shape_in.size()) throw std::invalid_argument("a TensorView needs one stride per dimension");
    int dim = 0;
    for (std::int64_t stride : strides_in) strides[dim++] = stride;
  }

  // A mutable view reads as a constant one.
  template <class Other>
    requires(std::is_const_v<Void> && !std::is_const_v<Other>)
  BasicTensorView(const BasicTensorView<Other>& other)  // NOLINT(google-explicit-constructor)
      : data(other.data), dtype(other.dtype), num_dims(other.num_dims), shape(other.shape), strides(other.strides) {}

  explicit operator bool() const noexcept { return num_dims != 0; }

  std::int64_t num_elements() const noexcept {
    std::int64_t count = num_dims == 0 ? 0 : 1;
    for (int dim = 0; dim < num_dims; ++dim) count *= shape[dim];
    return count;
  }

  // The address of element [i] or [i, j]; no bounds check.
  Byte* at(std::int64_t i, std::int64_t j = 0) const noexcept {
    return static_cast<Byte*>(data) + (i * strides[0] + j * strides[1]) * static_cast<std::int64_t>(size_of(dtype));
  }
};

using TensorView = BasicTensorView<void>;
using ConstTensorView = BasicTensorView<const void>;

// A dense view whose element type follows from the pointer: tensor(ptr, {num_tokens, hidden}).
template <class T>
auto tensor(T* data, std::initializer_list<std::int64_t> shape) {
  using Void = std::conditional_t<std::is_const_v<T>, const void, void>;
  return BasicTensorView<Void>(data, data_type_of<T>(), shape);
}

}  // namespace tokenyard
