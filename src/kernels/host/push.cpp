#include "kernels/host/push.hpp"

#include <cstring>

#include "base/hooks.hpp"
#include "kernels/host/rows.hpp"

namespace tokenyard::host {
namespace {

bool is_sent(const PushArgs& args, std::int64_t entry) {
  return args.row[entry] >= 0 && args.windows[args.destination[entry]] != nullptr;
}

// Packs a row whose elements stand apart.
void gather_row(std::byte* destination, const ConstTensorView& lane, std::int64_t token) {
  const std::size_t element_bytes = size_of(lane.dtype);
  for (std::int64_t i = 0; i < lane.shape[1]; ++i) {
    std::memcpy(destination + i * element_bytes, lane.at(token, i), element_bytes);
  }
}

void push_lane_row(const PushArgs& args, std::size_t lane_idx, std::int64_t token, int peer, std::int64_t row) {
  const ConstTensorView& lane = args.lanes[lane_idx];
  std::size_t row_bytes = static_cast<std::size_t>(lane.shape[1]) * size_of(lane.dtype);
  std::byte* target = args.windows[peer] + args.layout->lanes[lane_idx] + row * row_bytes;
  if (lane.strides[1] != 1 && lane.shape[1] != 1) {
    gather_row(target, lane, token);
    return;
  }
  if (has_fault(Fault::kPushShortRow) && lane_idx == 0) row_bytes -= 16;
  copy_row(target, lane.at(token), row_bytes, args.stores);
}

void push_metadata(const PushArgs& args, std::int64_t token, int ordinal, int peer, std::int64_t row) {
  std::byte* window = args.windows[peer];
  const auto top_k = static_cast<std::int64_t>(args.top_k);
  auto* topk_idx = reinterpret_cast<std::int32_t*>(window + args.layout->topk_idx) + row * top_k;
  for (std::int64_t k = 0; k < top_k; ++k) {
    topk_idx[k] = args.ordinal[token * top_k + k] == ordinal ? args.local_idx[token * top_k + k] : -1;
  }
  if (args.topk_weights) {
    auto* weights = reinterpret_cast<float*>(window + args.layout->topk_weights) + row * top_k;
    const std::int64_t from = has_fault(Fault::kPushWeightOfNeighbour) && token > 0 ? token - 1 : token;
    for (std::int64_t k = 0; k < top_k; ++k) std::memcpy(weights + k, args.topk_weights.at(from, k), sizeof(float));
  }
  reinterpret_cast<std::int32_t*>(window + args.layout->source_token)[row] = static_cast<std::int32_t>(token);
  reinterpret_cast<std::int32_t*>(window + args.layout->ordinal)[row] = ordinal;
}

}  // namespace

void push(const PushArgs& args) {
  for (std::int64_t token = 0; token < args.num_tokens; ++token) {
    // Destinations inside: a row is read from memory once, however many ranks it goes to.
    for (std::size_t lane_idx = 0; lane_idx < args.lanes.size(); ++lane_idx) {
      for (int o = 0; o < args.fan_out[token]; ++o) {
        const std::int64_t entry = token * args.max_fan_out + o;
        if (is_sent(args, entry)) push_lane_row(args, lane_idx, token, args.destination[entry], args.row[entry]);
      }
    }
    if (args.ordinal == nullptr) continue;
    for (int o = 0; o < args.fan_out[token]; ++o) {
      const std::int64_t entry = token * args.max_fan_out + o;
      if (is_sent(args, entry)) push_metadata(args, token, o, args.destination[entry], args.row[entry]);
    }
  }
}

}  // namespace tokenyard::host
