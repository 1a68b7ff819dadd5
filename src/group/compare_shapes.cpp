#include "group/compare_shapes.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "base/fail.hpp"
#include "layout/plan_layout.hpp"

namespace tokenyard {
namespace {

using Field = std::pair<std::string, std::int64_t>;

std::vector<Field> fields_of(const Shape& shape) {
  std::vector<Field> fields{{"num_experts", shape.num_experts},
                            {"top_k", shape.top_k},
                            {"max_tokens", shape.max_tokens},
                            {"layout", static_cast<std::int64_t>(shape.layout)},
                            {"expert_alignment", shape.expert_alignment},
                            {"expert_capacity", shape.expert_capacity},
                            {"recv_capacity", shape.recv_capacity},
                            {"overflow", static_cast<std::int64_t>(shape.overflow)},
                            {"max_local_experts", shape.max_local_experts},
                            {"the number of lanes", static_cast<std::int64_t>(shape.lanes.size())},
                            {"combine.dtype", shape.combine ? static_cast<std::int64_t>(shape.combine->dtype) : -1},
                            {"combine.num_elements", shape.combine ? shape.combine->num_elements : -1}};
  for (std::size_t lane = 0; lane < kMaxLanes; ++lane) {
    const Lane given = lane < shape.lanes.size() ? shape.lanes[lane] : Lane{DataType::kByte, 0};
    fields.emplace_back(fmt::format("lanes[{}].dtype", lane), static_cast<std::int64_t>(given.dtype));
    fields.emplace_back(fmt::format("lanes[{}].num_elements", lane), given.num_elements);
  }
  std::uint64_t placement = 0xcbf29ce484222325;  // FNV-1a over the table, row by row
  for (const auto& experts : shape.placement.experts_of) {
    placement = (placement ^ 0xffffffffU) * 0x100000001b3;
    for (const std::int32_t expert : experts) placement = (placement ^ static_cast<std::uint32_t>(expert)) * 0x100000001b3;
  }
  fields.emplace_back("placement (fingerprint)", static_cast<std::int64_t>(placement));
  return fields;
}

}  // namespace

void compare_shapes(Exchange& exchange, const Shape& shape, std::chrono::milliseconds timeout) {
  // A rank with a bad shape takes part too, so that the others do not wait for it.
  std::optional<Error> complaint;
  try {
    check_shape(shape, exchange.num_ranks());
    Placement(shape.placement, shape.num_experts, exchange.num_ranks());
  } catch (const Error& error) {
    complaint = error;
  }
  const std::vector<Field> mine = fields_of(shape);
  std::vector<std::int64_t> values{complaint.has_value() ? 1 : 0};
  for (const Field& field : mine) values.push_back(field.second);

  const auto gathered = exchange.all_gather(std::as_bytes(std::span(values)), timeout);
  if (complaint.has_value()) throw Error(*complaint);

  std::string differences;
  for (std::size_t rank = 0; rank < gathered.size(); ++rank) {
    std::vector<std::int64_t> theirs(values.size(), -1);
    std::memcpy(theirs.data(), gathered[rank].data(), std::min(gathered[rank].size(), values.size() * sizeof(std::int64_t)));
    if (theirs[0] != 0) {
      differences += fmt::format("; rank {} found its own shape invalid", rank);
      continue;
    }
    for (std::size_t i = 0; i < mine.size(); ++i) {
      if (theirs[i + 1] == values[i + 1]) continue;
      differences += fmt::format("; {} is {} on rank {} and {} on rank {}", mine[i].first, values[i + 1], exchange.rank(),
                                 theirs[i + 1], rank);
    }
  }
  if (!differences.empty()) {
    fail(ErrorCode::kDisagreement, "the ranks describe different plans{}", differences);
  }
}

}  // namespace tokenyard
