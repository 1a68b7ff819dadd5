#include "kernels/cuda/payload.hpp"

#include <algorithm>

namespace tokenyard::cuda {
namespace {

constexpr int kMaxStageBytes = 4 * 1024;
constexpr int kStageAlignment = 128;  // bulk copies to and from other addresses of shared memory are slower
// Longer rows than these are worth a bulk copy of their own.
constexpr int kMaxGroupRowBytes = 1024;

}  // namespace

bool goes_by_vectors(const ConstTensorView& lane) {
  const auto element_bytes = static_cast<std::int64_t>(size_of(lane.dtype));
  const bool is_dense = lane.strides[1] == 1 || lane.shape[1] == 1;
  return is_dense && lane.shape[1] * element_bytes % 16 == 0 && lane.strides[0] * element_bytes % 16 == 0 &&
         reinterpret_cast<std::uintptr_t>(lane.data) % 16 == 0;
}

void choose_ways(Payload* payload, bool in_bulk) {
  bool has_long_rows = false;
  for (int i = 0; i < payload->num_lanes; ++i) {
    const SourceLane& lane = payload->lanes[i];
    has_long_rows = has_long_rows || (lane.way == Way::kByThreads && lane.row_bytes > kMaxGroupRowBytes);
  }
  for (int i = 0; i < payload->num_lanes; ++i) {
    SourceLane& lane = payload->lanes[i];
    if (lane.way == Way::kByThreads && in_bulk) {
      lane.way = has_long_rows && lane.row_bytes <= kMaxGroupRowBytes ? Way::kGroup : Way::kBulk;
    }
    if (lane.way == Way::kBulk) {
      const int num_parts = (lane.row_bytes + kMaxStageBytes - 1) / kMaxStageBytes;
      lane.first_part = static_cast<int>(payload->num_parts);
      lane.part_bytes = (lane.row_bytes / 16 + num_parts - 1) / num_parts * 16;
      payload->num_parts += num_parts;
      payload->stage_bytes = std::max(payload->stage_bytes, lane.part_bytes);
    }
    payload->has_groups = payload->has_groups || lane.way == Way::kGroup;
    payload->has_plain_part = payload->has_plain_part || lane.way == Way::kByThreads || lane.way == Way::kByElements;
  }
  payload->stage_bytes = (payload->stage_bytes + kStageAlignment - 1) / kStageAlignment * kStageAlignment;
}

}  // namespace tokenyard::cuda
