// Whether tensors of a caller share memory.
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

// The bytes from a tensor's first element to behind its last; strides are not negative.
inline std::pair<std::uintptr_t, std::uintptr_t> span_of(const ConstTensorView& tensor) {
  const auto begin = reinterpret_cast<std::uintptr_t>(tensor.data);
  if (tensor.num_elements() == 0) return {begin, begin};
  std::int64_t last = 0;
  for (int dim = 0; dim < tensor.num_dims; ++dim) last += (tensor.shape[dim] - 1) * tensor.strides[dim];
  return {begin, begin + static_cast<std::uintptr_t>(last + 1) * size_of(tensor.dtype)};
}

// By what they span: tensors that interleave without an element in common do so, too.
inline bool overlap(const ConstTensorView& one, const ConstTensorView& other) {
  const auto [begin, end] = span_of(one);
  const auto [other_begin, other_end] = span_of(other);
  return begin < end && other_begin < other_end && begin < other_end && other_begin < end;
}

}  // namespace tokenyard
