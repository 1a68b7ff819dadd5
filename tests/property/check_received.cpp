#include <algorithm>
#include <bit>
#include <cstring>

#include "tests/property/contents.hpp"
#include "tests/property/rank_run.hpp"
#include "tests/property/strided_matrix.hpp"

namespace tokenyard::test {
namespace {

// Calls f(row of the tensor, what stands there) for all rows whose contents are specified; nullptr stands for zeros.
template <class F>
void for_each_row(const ResultOfStep& result, F f) {
  const reference::Arrived& expected = *result.expected;
  if (result.shape->layout == Layout::kCompact) {
    for (std::size_t row = 0; row < expected.rows.size(); ++row) f(static_cast<std::int64_t>(row), &expected.rows[row]);
    return;
  }
  for (std::size_t place = 0; place < expected.copied_row.size(); ++place) {
    const std::int64_t row = expected.copied_row[place];
    if (row >= 0) {
      f(static_cast<std::int64_t>(place), &expected.rows[row]);
    } else if (result.shape->layout == Layout::kExpertContiguous) {
      f(static_cast<std::int64_t>(place), nullptr);
    }
  }
}

std::vector<std::int64_t> extents(const ConstTensorView& view) {
  return {view.shape.begin(), view.shape.begin() + view.num_dims};
}

bool is_dense(const ConstTensorView& view) {
  std::int64_t stride = 1;
  for (int dim = view.num_dims - 1; dim >= 0; --dim) {
    if (view.shape[dim] > 1 && view.strides[dim] != stride) return false;
    stride *= view.shape[dim];
  }
  return true;
}

std::string text(const std::vector<std::int64_t>& numbers) {
  std::string joined = "[";
  for (const std::int64_t number : numbers) joined += fmt::format(" {}", number);
  return joined + " ]";
}

// The tensor of a lane as the library has to lay it out, with extents of `tensor`.
bool has_right_strides(const Lane& lane, const TensorView& tensor) {
  TensorView wanted = tensor;
  std::int64_t stride = 1;
  for (int dim = wanted.num_dims - 1; dim >= 0; --dim) {
    wanted.strides[dim] = stride;
    stride *= wanted.shape[dim];
  }
  if (lane.column_major) {
    wanted.strides[wanted.num_dims - 2] = 1;
    wanted.strides[wanted.num_dims - 1] = wanted.shape[wanted.num_dims - 2];
  }
  for (int dim = 0; dim < wanted.num_dims; ++dim) {
    if (tensor.shape[dim] > 1 && tensor.strides[dim] != wanted.strides[dim]) return false;
  }
  return true;
}

// Element `column` of a row, counted through all groups.
std::byte* element_at(const TensorView& tensor, std::int64_t row, std::int64_t column) {
  std::int64_t offset = column * tensor.strides[tensor.num_dims - 1];
  if (tensor.num_dims == 2) {
    offset += row * tensor.strides[0];
  } else {
    offset += row / tensor.shape[1] * tensor.strides[0] + row % tensor.shape[1] * tensor.strides[1];
  }
  return static_cast<std::byte*>(tensor.data) + offset * static_cast<std::int64_t>(size_of(tensor.dtype));
}

// Finds that a view is not a dense tensor of these extents. False: do not look inside.
bool check_extents(const char* name, const ConstTensorView& view, const std::vector<std::int64_t>& wanted,
                   const std::string& when, Findings* findings) {
  if (extents(view) == wanted && is_dense(view)) return true;
  findings->add("{}: {} has the shape {}{}, expected {}", when, name, text(extents(view)), is_dense(view) ? "" : " (not dense)",
                text(wanted));
  return false;
}

// A view of T against the numbers expected in its beginning, and `filler` in the rest.
template <class T, class Expected>
void check_values(const char* name, Residence* residence, const ConstTensorView& view,
                  const std::vector<std::int64_t>& wanted_extents, const std::vector<Expected>& expected, T filler,
                  const std::string& when, Findings* findings) {
  if (view.dtype != data_type_of<T>()) {
    findings->add("{}: {} is of type {}", when, name, to_string(view.dtype));
    return;
  }
  if (!check_extents(name, view, wanted_extents, when, findings)) return;
  const OnHost<const void> on_host = residence->fetch(view);
  const auto* values = static_cast<const T*>(on_host.view.data);
  const auto num_values = static_cast<std::size_t>(view.num_elements());
  for (std::size_t i = 0; i < num_values; ++i) {
    const T wanted = i < expected.size() ? static_cast<T>(expected[i]) : filler;
    if (std::memcmp(&values[i], &wanted, sizeof(T)) == 0) continue;
    findings->add("{}: element {} of {} is {}, expected {}", when, i, name, values[i], wanted);
    return;
  }
}

}  // namespace

void check_lanes(const ResultOfStep& result, const std::string& when, Findings* findings) {
  const Shape& shape = *result.shape;
  for (std::size_t lane_idx = 0; lane_idx < shape.lanes.size(); ++lane_idx) {
    const Lane& lane = shape.lanes[lane_idx];
    const int lane_number = static_cast<int>(lane_idx);
    const TensorView returned = result.received.lane(lane_number);
    std::vector<std::int64_t> wanted{result.sizes.num_tensor_rows, lane.num_elements};
    if (shape.layout == Layout::kExpertPadded)
      wanted = {result.expected->num_experts, shape.expert_capacity, lane.num_elements};
    // A caller's own tensor keeps its extents, which may be larger.
    if (!result.memory.empty() && shape.layout != Layout::kExpertPadded) wanted[0] = std::max(wanted[0], returned.shape[0]);
    if (returned.dtype != lane.dtype) findings->add("{}: lane {} is of type {}", when, lane_idx, to_string(returned.dtype));
    if (extents(returned) != wanted || !has_right_strides(lane, returned)) {
      findings->add("{}: lane {} has the shape {} and strides {}, expected {}{}", when, lane_idx, text(extents(returned)),
                    text({returned.strides.begin(), returned.strides.begin() + returned.num_dims}), text(wanted),
                    lane.column_major ? " by columns" : "");
      continue;
    }

    const OnHost<void> on_host = result.residence->fetch(returned);
    const TensorView& tensor = on_host.view;
    const std::size_t row_bytes = lane.row_bytes();
    const std::size_t element_bytes = size_of(lane.dtype);
    std::vector<std::byte> row(row_bytes);
    std::vector<std::byte> gathered(row_bytes);
    int num_wrong = 0;
    for_each_row(result, [&](std::int64_t row_idx, const reference::ReceivedRow* origin) {
      std::fill(row.begin(), row.end(), std::byte{0});
      if (origin != nullptr) fill_lane_row(*result.step, shape, lane_number, origin->source, origin->token, row.data());
      const std::byte* actual = element_at(tensor, row_idx, 0);
      for (std::size_t i = 0; lane.column_major && i * element_bytes < row_bytes; ++i) {
        std::memcpy(gathered.data() + i * element_bytes, element_at(tensor, row_idx, static_cast<std::int64_t>(i)),
                    element_bytes);
        actual = gathered.data();
      }
      if (std::memcmp(actual, row.data(), row_bytes) == 0 || num_wrong++ > 0) return;
      const auto wrong = std::mismatch(row.begin(), row.end(), actual).first - row.begin();
      findings->add("{}: row {} of lane {}, {}, differs at byte {} of {}", when, row_idx, lane_idx,
                    origin == nullptr ? "an alignment gap" : fmt::format("token {} of rank {}", origin->token, origin->source),
                    wrong, row_bytes);
    });
    if (num_wrong > 1) findings->add("{}: {} rows of lane {} in all are wrong", when, num_wrong, lane_idx);
  }
  for (const auto& memory : result.memory) {
    if (!memory->guards_are_untouched()) findings->add("{}: bytes around a caller's tensor were overwritten", when);
  }
}

void check_routing(const ResultOfStep& result, std::int64_t num_sent, const PlanSizes& sizes, const std::string& when,
                   Findings* findings) {
  const Routing& routing = result.routing;
  const reference::Arrived& expected = *result.expected;
  const Shape& shape = *result.shape;
  const bool fixed = shape.overflow == Overflow::kDrop;
  const std::int64_t top_k = shape.top_k;
  const auto num_rows = static_cast<std::int64_t>(expected.rows.size());
  const std::int64_t view_rows = fixed ? sizes.recv_capacity : num_rows;
  const std::int64_t num_experts = expected.num_experts;
  const bool compact = shape.layout == Layout::kCompact;
  const std::int64_t num_expanded = compact ? num_rows : expected.expert_offsets.back();

  const auto check_number = [&](const char* name, std::int64_t actual, std::int64_t wanted) {
    if (actual != wanted) findings->add("{}: {} is {}, expected {}", when, name, actual, wanted);
  };
  std::int64_t num_dropped = 0;
  for (const std::int64_t count : expected.expert_dropped) num_dropped += count;
  check_number("num_tokens", routing.num_tokens(), num_sent);
  check_number("num_recv_rows", routing.num_recv_rows(), num_rows);
  check_number("num_expanded_rows", routing.num_expanded_rows(), num_expanded);
  check_number("num_dropped", routing.num_dropped(), num_dropped);

  std::vector<std::int64_t> source_tokens;
  for (const reference::ReceivedRow& row : expected.rows) source_tokens.push_back(row.token);
  const auto check = [&](const char* name, const ConstTensorView& view, const std::vector<std::int64_t>& wanted,
                         const auto& values,
                         auto filler) { check_values(name, result.residence, view, wanted, values, filler, when, findings); };
  const auto check_empty = [&](const char* name, const ConstTensorView& view) {
    if (view) findings->add("{}: {} is not empty", when, name);
  };
  check("topk_idx", routing.topk_idx(), {view_rows, top_k}, expected.local_expert, std::int32_t{-1});
  check("source_token", routing.source_token(), {view_rows}, source_tokens, std::int32_t{-1});
  check("source_offsets", routing.source_offsets(), {static_cast<std::int64_t>(expected.source_offsets.size())},
        expected.source_offsets, std::int64_t{0});
  check("expert_counts", routing.expert_counts(), {num_experts}, expected.expert_counts, std::int64_t{0});
  check("expert_dropped", routing.expert_dropped(), {num_experts}, expected.expert_dropped, std::int64_t{0});
  if (result.has_weights) {
    check("topk_weights", routing.topk_weights(), {view_rows, top_k}, expected.weights, 0.0F);
  } else {
    check_empty("topk_weights", routing.topk_weights());
  }
  if (compact) {
    check_empty("expert_offsets", routing.expert_offsets());
    check_empty("expanded_row", routing.expanded_row());
    check_empty("gather_idx", routing.gather_idx());
    check_empty("expanded_source_token", routing.expanded_source_token());
    check_empty("expert_source_offsets", routing.expert_source_offsets());
    check_empty("expanded_weights", routing.expanded_weights());
    return;
  }
  const std::int64_t view_expanded = result.sizes.num_tensor_rows;
  check("expert_offsets", routing.expert_offsets(), {num_experts + 1}, expected.expert_offsets, std::int64_t{0});
  check("expanded_row", routing.expanded_row(), {view_rows, top_k}, expected.place, std::int64_t{-1});
  check("gather_idx", routing.gather_idx(), {view_expanded}, expected.copied_row, std::int32_t{-1});
  check("expanded_source_token", routing.expanded_source_token(), {view_expanded}, expected.place_tokens, std::int32_t{-1});
  check("expert_source_offsets", routing.expert_source_offsets(),
        {num_experts, static_cast<std::int64_t>(expected.source_offsets.size())}, expected.sources_of_experts, std::int64_t{0});
  if (result.has_weights) {
    check("expanded_weights", routing.expanded_weights(), {view_expanded}, expected.place_weights, 0.0F);
  } else {
    check_empty("expanded_weights", routing.expanded_weights());
  }
}

void poison_lane(const ResultOfStep& result, int lane, const TensorView& tensor) {
  const std::size_t element_bytes = size_of(tensor.dtype);
  const Lane& about = result.shape->lanes[lane];
  for_each_row(result, [&](std::int64_t row_idx, const reference::ReceivedRow*) {
    if (!about.column_major) {
      std::fill_n(element_at(tensor, row_idx, 0), about.row_bytes(), kPoison);
      return;
    }
    for (std::int64_t i = 0; i < about.num_elements; ++i) std::fill_n(element_at(tensor, row_idx, i), element_bytes, kPoison);
  });
}

}  // namespace tokenyard::test
