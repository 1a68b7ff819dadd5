#include "engine/check_args.hpp"

#include <algorithm>
#include <array>

#include "base/check_tensor.hpp"
#include "base/fail.hpp"
#include "engine/plan_impl.hpp"

namespace tokenyard {
namespace {

constexpr std::array<const char*, kMaxLanes> kLaneNames{"lane 0", "lane 1", "lane 2", "lane 3"};

std::string list_text(const std::array<std::int64_t, ConstTensorView::kMaxDims>& numbers, int num_dims) {
  std::string text = "[";
  for (int dim = 0; dim < std::min(num_dims, ConstTensorView::kMaxDims); ++dim) {
    text += fmt::format("{}{}", dim == 0 ? "" : ", ", numbers[dim]);
  }
  return text + "]";
}

bool is_dense(const ConstTensorView& tensor) {
  std::int64_t dense_stride = 1;
  for (int dim = tensor.num_dims - 1; dim >= 0; --dim) {
    if (tensor.shape[dim] < 0 || (tensor.shape[dim] > 1 && tensor.strides[dim] != dense_stride)) return false;
    dense_stride *= tensor.shape[dim];
  }
  return true;
}

// Dense rows in the plan's layout, which may have one row dimension or two (kExpertPadded), and more rows than needed, since
// tensors of fixed capacity keep their shape. num_columns 0: the rows are single values.
void check_layout_rows(const char* name, const ConstTensorView& tensor, DataType dtype, std::int64_t num_rows,
                       std::int64_t num_columns) {
  const int num_row_dims = tensor.num_dims - (num_columns > 0 ? 1 : 0);
  const std::int64_t num_elements = num_rows * std::max<std::int64_t>(num_columns, 1);
  const bool fits = tensor.dtype == dtype && (num_row_dims == 1 || num_row_dims == 2) && is_dense(tensor) &&
                    tensor.num_elements() >= num_elements &&
                    (num_columns == 0 || tensor.shape[tensor.num_dims - 1] == num_columns);
  if (!fits) {
    fail_argument("{} must be a dense {} tensor of at least {} rows of {}; given: {} {}", name, to_string(dtype), num_rows,
                  num_columns > 0 ? fmt::format("{} elements", num_columns) : std::string("one value"), to_string(tensor.dtype),
                  list_text(tensor.shape, tensor.num_dims));
  }
  if (num_elements > 0 && tensor.data == nullptr) fail_argument("{} is a null pointer", name);
}

// That experts' outputs must have. Where the host does not know how many rows arrived (kDrop on GPUs), as many as there can be.
std::int64_t rows_of_layout(const Routing::Data& routing, bool compact) {
  const std::int64_t num_rows = compact ? routing.num_recv_rows : routing.num_expanded_rows;
  if (num_rows >= 0) return num_rows;
  return compact ? routing.num_view_rows : routing.num_expanded_view_rows;
}

void check_token_rows(const char* name, const ConstTensorView& tensor, DataType dtype, std::int64_t num_tokens,
                      std::int64_t num_columns) {
  check_dtype(name, tensor, {dtype});
  check_matrix(name, tensor, num_tokens, num_columns);
}

}  // namespace

TensorView tensor_of_rows(const Shape& shape, const Lane& lane, int num_local_experts, std::int64_t num_rows, std::byte* data) {
  const std::int64_t capacity = shape.expert_capacity;
  if (shape.layout == Layout::kExpertPadded) {
    const std::int64_t group = capacity * lane.num_elements;
    if (lane.column_major) return {data, lane.dtype, {num_local_experts, capacity, lane.num_elements}, {group, 1, capacity}};
    return {data, lane.dtype, {num_local_experts, capacity, lane.num_elements}};
  }
  if (lane.column_major) return {data, lane.dtype, {num_rows, lane.num_elements}, {1, num_rows}};
  return {data, lane.dtype, {num_rows, lane.num_elements}};
}

void check_output(std::size_t lane_idx, const TensorView& output, const Shape& shape, int num_local_experts,
                  std::int64_t min_rows) {
  const std::int64_t num_rows = output.num_dims == 2 ? std::max(output.shape[0], min_rows) : min_rows;
  const TensorView wanted = tensor_of_rows(shape, shape.lanes[lane_idx], num_local_experts, num_rows, nullptr);
  bool fits = output.num_dims == wanted.num_dims && output.dtype == wanted.dtype;
  for (int dim = 0; fits && dim < wanted.num_dims; ++dim) {
    fits = output.shape[dim] == wanted.shape[dim] && (output.shape[dim] <= 1 || output.strides[dim] == wanted.strides[dim]);
  }
  if (!fits) {
    fail_argument("the output for lane {} must be a {} tensor of shape {} and strides {}; given: {} {} with strides {}",
                  lane_idx, to_string(wanted.dtype), list_text(wanted.shape, wanted.num_dims),
                  list_text(wanted.strides, wanted.num_dims), to_string(output.dtype), list_text(output.shape, output.num_dims),
                  list_text(output.strides, output.num_dims));
  }
  if (output.data == nullptr && wanted.num_elements() > 0) {
    fail_argument("the output for lane {} is a null pointer", lane_idx);
  }
}

void Plan::Impl::check_dispatch(const DispatchArgs& args, int slot_idx) const {
  std::int64_t num_tokens = 0;
  if (args.routing != nullptr) {
    const Routing::Data& routing = usable_routing(args.routing);
    if (args.topk_idx || args.topk_weights) {
      fail_argument("a cached dispatch takes its ids and weights from the Routing: leave topk_idx and topk_weights empty");
    }
    if (routing.placement != placement_fingerprint_) {
      fail(ErrorCode::kStale, "the Routing was made for another placement of the experts: dispatch with top-k ids again");
    }
    num_tokens = routing.num_tokens;
  } else {
    check_dtype("topk_idx", args.topk_idx, {DataType::kInt32, DataType::kInt64});
    num_tokens = args.topk_idx.shape[0];
    check_matrix("topk_idx", args.topk_idx, num_tokens, shape_.top_k);
  }
  if (num_tokens > shape_.max_tokens) {
    fail_argument("{} tokens were given and the plan's max_tokens is {}: make a plan with a higher bound", num_tokens,
                  shape_.max_tokens);
  }
  if (args.topk_weights) check_token_rows("topk_weights", args.topk_weights, DataType::kFloat32, num_tokens, shape_.top_k);

  // With quantization one tensor stands for lanes 0 and 1.
  std::vector<Lane> wanted = shape_.lanes;
  if (shape_.quantization.has_value()) {
    wanted[0].dtype = shape_.quantization->from;
    wanted.erase(wanted.begin() + 1);
  }
  if (args.lanes.size() != wanted.size()) {
    fail_argument("{} lanes were given and the plan takes {}", args.lanes.size(), wanted.size());
  }
  for (std::size_t lane_idx = 0; lane_idx < args.lanes.size(); ++lane_idx) {
    const char* name = kLaneNames[lane_idx];
    const Lane& lane = wanted[lane_idx];
    check_token_rows(name, args.lanes[lane_idx], lane.dtype, num_tokens, lane.num_elements);
    if (lane_idx == 0) check_dense_rows(name, args.lanes[lane_idx]);
  }

  if (!args.outputs.empty() && args.allocate != nullptr) fail_argument("give either outputs or allocate, not both");
  if (!args.outputs.empty() && args.outputs.size() != shape_.lanes.size()) {
    fail_argument("{} outputs were given and the plan has {} lanes", args.outputs.size(), shape_.lanes.size());
  }
  // Under kGrow the number of rows is not known yet; find_outputs looks at it when it is.
  const bool compact = shape_.layout == Layout::kCompact;
  const std::int64_t capacity = compact ? dimensions_.first_recv_capacity : max_expanded_rows(num_local_experts());
  for (std::size_t lane_idx = 0; lane_idx < args.outputs.size(); ++lane_idx) {
    const std::int64_t least = shape_.overflow == Overflow::kDrop ? capacity : 0;
    check_output(lane_idx, args.outputs[lane_idx], shape_, num_local_experts(), least);
  }
  if (slots_[slot_idx].live.has_value()) {
    fail_argument("slot {} still holds a live result: release it first (at most {} results are live at once)", slot_idx,
                  kNumSlots);
  }
  if (slots_[slot_idx].owes_free) {
    fail_argument("the rows of slot {} are still read by a combine that was begun: complete it first", slot_idx);
  }
}

void Plan::Impl::check_combines() const {
  if (combine_lane_.num_elements > 0) return;
  fail(ErrorCode::kUnsupported, "this plan dispatches {} rows, which cannot be summed: set Shape::combine to combine",
       to_string(shape_.lanes[0].dtype));
}

void Plan::Impl::check_combine(const CombineArgs& args, const Routing::Data& routing) const {
  check_combines();
  const bool compact = shape_.layout == Layout::kCompact;
  const std::int64_t num_rows = rows_of_layout(routing, compact);
  const Lane& lane = combine_lane_;
  check_layout_rows("rows", args.rows, lane.dtype, num_rows, lane.num_elements);
  check_token_rows("output", args.output, lane.dtype, routing.num_tokens, lane.num_elements);
  check_dense_rows("output", args.output);
  for (const ConstTensorView& bias : args.biases) {
    if (!bias) continue;
    check_token_rows("a bias", bias, lane.dtype, routing.num_tokens, lane.num_elements);
    check_dense_rows("a bias", bias);
  }
  if (args.factors) check_layout_rows("factors", args.factors, DataType::kFloat32, num_rows, 0);
  if (args.use_routing_weights) {
    if (args.factors) fail_argument("give either factors or use_routing_weights, not both");
    if (compact) {
      fail_argument("use_routing_weights needs an expert layout: rows of the compact layout stand for several experts at once");
    }
    if (!routing.has_weights) fail_argument("use_routing_weights needs weights, and the dispatch was given no topk_weights");
  }
  if (args.topk_weights) {
    if (shape_.mode != Mode::kLatency || compact) {
      fail_argument("topk_weights at combine needs latency mode and an expert layout: give factors instead");
    }
    if (args.factors || args.use_routing_weights) fail_argument("give one of factors, use_routing_weights and topk_weights");
    check_token_rows("topk_weights", args.topk_weights, DataType::kFloat32, routing.num_tokens, shape_.top_k);
  }
  if (static_cast<bool>(args.carried_weights) != static_cast<bool>(args.returned_weights)) {
    fail_argument("carried_weights and returned_weights go together: give both or neither");
  }
  if (args.carried_weights) {
    check_layout_rows("carried_weights", args.carried_weights, DataType::kFloat32, num_rows, compact ? shape_.top_k : 0);
    check_token_rows("returned_weights", args.returned_weights, DataType::kFloat32, routing.num_tokens, shape_.top_k);
  }
}

int Plan::Impl::choose_slot(int wanted, int next) {
  if (wanted < -1 || wanted >= kNumSlots) fail_argument("slot is {}: it must be 0, 1, or -1 to alternate", wanted);
  return wanted >= 0 ? wanted : next;
}

}  // namespace tokenyard
