// Whether tensors of a caller share memory.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

// The bytes from a tensor's lowest element to behind its highest.
inline std::pair<std::uintptr_t, std::uintptr_t> span_of(const ConstTensorView& tensor) {
  const auto first = reinterpret_cast<std::uintptr_t>(tensor.data);
  if (tensor.num_elements() == 0) return {first, first};
  const auto element_bytes = static_cast<std::int64_t>(size_of(tensor.dtype));
  std::int64_t lowest = 0;
  std::int64_t highest = 0;
  for (int dim = 0; dim < tensor.num_dims; ++dim) {
    const std::int64_t extent = (tensor.shape[dim] - 1) * tensor.strides[dim] * element_bytes;
    (extent < 0 ? lowest : highest) += extent;
  }
  return {first + static_cast<std::uintptr_t>(lowest), first + static_cast<std::uintptr_t>(highest + element_bytes)};
}

// By what they span: tensors that interleave without an element in common do so, too.
inline bool overlap(const ConstTensorView& one, const ConstTensorView& other) {
  const auto [begin, end] = span_of(one);
  const auto [other_begin, other_end] = span_of(other);
  return begin < end && other_begin < other_end && begin < other_end && other_begin < end;
}

}  // namespace tokenyard
