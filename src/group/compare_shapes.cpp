#include "group/compare_shapes.hpp"

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/fail.hpp"
#include "base/fingerprint.hpp"
#include "group/gather_call.hpp"
#include "layout/plan_layout.hpp"

namespace tokenyard {
namespace {

constexpr int kMaxDifferencesShown = 8;

// A field as it travels. Enumerations are shown by their names.
struct Field {
  std::string name;
  std::int64_t value;
  std::string (*show)(std::int64_t value) = [](std::int64_t number) { return fmt::format("{}", number); };
};

std::string show_mode(std::int64_t value) { return to_string(static_cast<Mode>(value)); }
std::string show_layout(std::int64_t value) { return to_string(static_cast<Layout>(value)); }
std::string show_overflow(std::int64_t value) { return static_cast<Overflow>(value) == Overflow::kGrow ? "grow" : "drop"; }
std::string show_dtype(std::int64_t value) { return value < 0 ? "not set" : to_string(static_cast<DataType>(value)); }

std::int64_t fingerprint_of(const PlacementTable& table) {
  Fingerprint fingerprint;
  for (const auto& experts : table.experts_of) {
    fingerprint.mix(0xffffffffU);  // a row begins
    for (const std::int32_t expert : experts) fingerprint.mix(static_cast<std::uint32_t>(expert));
  }
  return static_cast<std::int64_t>(fingerprint.value());
}

std::vector<Field> fields_of(const Shape& shape) {
  std::vector<Field> fields{
      {"num_experts", shape.num_experts},
      {"top_k", shape.top_k},
      {"max_tokens", shape.max_tokens},
      {"mode", static_cast<std::int64_t>(shape.mode), show_mode},
      {"mask_late_ranks", shape.mask_late_ranks ? 1 : 0},
      {"combine_as_float8", shape.combine_as_float8 ? 1 : 0},
      {"quantization.from", shape.quantization ? static_cast<std::int64_t>(shape.quantization->from) : -1, show_dtype},
      {"quantization.format", shape.quantization ? static_cast<std::int64_t>(shape.quantization->format) : -1},
      {"layout", static_cast<std::int64_t>(shape.layout), show_layout},
      {"expert_alignment", shape.expert_alignment},
      {"expert_capacity", shape.expert_capacity},
      {"recv_capacity", shape.recv_capacity},
      {"overflow", static_cast<std::int64_t>(shape.overflow), show_overflow},
      {"max_local_experts", shape.max_local_experts},
      {"the number of lanes", static_cast<std::int64_t>(shape.lanes.size())},
      {"combine.dtype", shape.combine ? static_cast<std::int64_t>(shape.combine->dtype) : -1, show_dtype},
      {"combine.num_elements", shape.combine ? shape.combine->num_elements : -1}};
  for (std::size_t lane = 0; lane < kMaxLanes; ++lane) {
    const Lane given = lane < shape.lanes.size() ? shape.lanes[lane] : Lane{DataType::kByte, 0};
    fields.push_back({fmt::format("lanes[{}].dtype", lane), static_cast<std::int64_t>(given.dtype), show_dtype});
    fields.push_back({fmt::format("lanes[{}].num_elements", lane), given.num_elements});
    fields.push_back({fmt::format("lanes[{}].column_major", lane), given.column_major ? 1 : 0});
  }
  fields.push_back({"placement (fingerprint)", fingerprint_of(shape.placement),
                    [](std::int64_t hash) { return fmt::format("{:016x}", static_cast<std::uint64_t>(hash)); }});
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
  for (const Field& field : mine) values.push_back(field.value);

  const auto gathered = gather_call(exchange, GroupCall::kPlan, std::as_bytes(std::span(values)), timeout);
  if (complaint.has_value()) throw Error(*complaint);

  std::string differences;
  int num_differences = 0;
  int culprit = -1;
  const auto report = [&](int rank, const std::string& difference) {
    if (culprit < 0) culprit = rank;
    if (++num_differences <= kMaxDifferencesShown) differences += "; " + difference;
  };
  for (int rank = 0; rank < exchange.num_ranks(); ++rank) {
    std::vector<std::int64_t> theirs(values.size(), -1);
    std::memcpy(theirs.data(), gathered[rank].data(), std::min(gathered[rank].size(), values.size() * sizeof(std::int64_t)));
    if (theirs[0] != 0) {
      report(rank, fmt::format("rank {} found its own shape invalid", rank));
      continue;
    }
    for (std::size_t i = 0; i < mine.size(); ++i) {
      if (theirs[i + 1] == values[i + 1]) continue;
      report(rank, fmt::format("{} is {} on rank {} and {} on rank {}", mine[i].name, mine[i].show(mine[i].value),
                               exchange.rank(), mine[i].show(theirs[i + 1]), rank));
    }
  }
  if (num_differences == 0) return;
  if (num_differences > kMaxDifferencesShown) {
    differences += fmt::format("; and {} more differences", num_differences - kMaxDifferencesShown);
  }
  throw Error(Failure{ErrorCode::kDisagreement, Phase::kNone, culprit, exchange.rank()},
              "the ranks describe different plans" + differences);
}

}  // namespace tokenyard
