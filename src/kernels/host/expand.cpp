#include "kernels/host/expand.hpp"

#include <cstring>

#include "kernels/host/rows.hpp"

namespace tokenyard::host {
namespace {

// The first element of a row, counted through all groups.
std::byte* row_of(const TensorView& layout, std::int64_t row) {
  if (layout.num_dims == 2) return layout.at(row);
  return layout.at(row / layout.shape[1], row % layout.shape[1]);
}

void store_row(const ExpandArgs& args, std::int64_t row, const std::byte* source) {
  const TensorView& layout = args.expanded;
  const std::int64_t stride = layout.strides[layout.num_dims - 1];
  std::byte* target = row_of(layout, row);
  if (stride == 1) return copy_row(target, source, args.row_bytes, args.stores);
  const std::size_t element_bytes = size_of(layout.dtype);
  for (std::size_t done = 0; done < args.row_bytes; done += element_bytes) {
    std::memcpy(target, source + done, element_bytes);
    target += stride * static_cast<std::int64_t>(element_bytes);
  }
}

}  // namespace

void expand(const ExpandArgs& args) {
  for (std::int64_t row = 0; row < args.num_rows; ++row) {
    const std::int64_t received_row = args.received_row == nullptr ? row : args.received_row[row];
    const std::byte* source = args.received + received_row * static_cast<std::int64_t>(args.row_bytes);
    if (args.expanded_row == nullptr) {
      store_row(args, row, source);
      continue;
    }
    for (int k = 0; k < args.top_k; ++k) {
      const std::int64_t target = args.expanded_row[row * args.top_k + k];
      if (target >= 0) store_row(args, target, source);
    }
  }
  finish_copies();
}

void zero_gaps(const ZeroGapsArgs& args) {
  const std::size_t element_bytes = size_of(args.expanded.dtype);
  for (int expert = 0; expert < args.num_local_experts; ++expert) {
    const std::int64_t begin = args.expert_offsets[expert] + args.expert_counts[expert];
    for (std::int64_t row = begin; row < args.expert_offsets[expert + 1]; ++row) {
      if (args.expanded.strides[1] == 1) {
        std::memset(args.expanded.at(row), 0, static_cast<std::size_t>(args.expanded.shape[1]) * element_bytes);
        continue;
      }
      for (std::int64_t i = 0; i < args.expanded.shape[1]; ++i) std::memset(args.expanded.at(row, i), 0, element_bytes);
    }
  }
}

}  // namespace tokenyard::host
