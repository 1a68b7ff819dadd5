// Combine: fold, signal, reduce.

#include <algorithm>
#include <utility>

#include "base/fail.hpp"
#include "base/hooks.hpp"
#include "engine/plan_impl.hpp"
#include "kernels/host/fold.hpp"
#include "kernels/host/reduce.hpp"
#include "kernels/host/rows.hpp"

namespace tokenyard {
namespace {

std::string shape_text(const ConstTensorView& view) {
  std::string text = "[";
  for (int dim = 0; dim < view.num_dims; ++dim) text += fmt::format("{}{}", dim == 0 ? "" : ", ", view.shape[dim]);
  return text + "]";
}

// A dense tensor of num_rows rows of num_columns; the rows may be split over two dimensions (kExpertPadded). num_columns 0: the
// rows are single values.
void check_rows(const char* name, const ConstTensorView& view, DataType dtype, std::int64_t num_rows, std::int64_t num_columns) {
  const int num_row_dims = view.num_dims - (num_columns > 0 ? 1 : 0);
  bool fits = view.dtype == dtype && (num_row_dims == 1 || num_row_dims == 2);
  std::int64_t dense_stride = 1;
  for (int dim = view.num_dims - 1; fits && dim >= 0; --dim) {
    fits = view.shape[dim] <= 1 || view.strides[dim] == dense_stride;
    dense_stride *= view.shape[dim];
  }
  const std::int64_t num_elements = num_rows * std::max<std::int64_t>(num_columns, 1);
  // More rows than needed are fine: capacity tensors keep their shape.
  fits = fits && view.num_elements() >= num_elements && (num_columns == 0 || view.shape[view.num_dims - 1] == num_columns);
  if (!fits) {
    fail_argument("{} must be a dense {} tensor of at least {} rows of {}; given: {} {}", name, to_string(dtype), num_rows,
                  num_columns > 0 ? fmt::format("{} elements", num_columns) : std::string("one value"), to_string(view.dtype),
                  shape_text(view));
  }
  if (num_elements > 0 && view.data == nullptr) fail_argument("{} is a null pointer", name);
}

// [num_tokens, num_columns] with dense rows that may stand apart.
void check_token_rows(const char* name, const ConstTensorView& view, DataType dtype, std::int64_t num_tokens,
                      std::int64_t num_columns) {
  if (view.num_dims != 2 || view.dtype != dtype || view.shape[0] != num_tokens || view.shape[1] != num_columns ||
      (view.strides[1] != 1 && num_columns != 1)) {
    fail_argument("{} must be a {} tensor of shape [{}, {}] with dense rows; given: {} {}", name, to_string(dtype), num_tokens,
                  num_columns, to_string(view.dtype), shape_text(view));
  }
  if (num_tokens > 0 && view.data == nullptr) fail_argument("{} is a null pointer", name);
}

}  // namespace

void Plan::Impl::check_combine(const CombineArgs& args, const Routing::Data& routing) const {
  if (combine_lane_.num_elements == 0) {
    fail(ErrorCode::kUnsupported, "this plan dispatches {} rows, which cannot be summed: set Shape::combine to combine",
         to_string(shape_.lanes[0].dtype));
  }
  if (args.slot < -1 || args.slot >= kNumSlots) fail_argument("slot is {}: it must be 0, 1, or -1 to alternate", args.slot);
  const bool compact = shape_.layout == Layout::kCompact;
  const std::int64_t num_rows = compact ? routing.num_recv_rows : routing.num_expanded_rows;
  check_rows("rows", args.rows, combine_lane_.dtype, num_rows, combine_lane_.num_elements);
  check_token_rows("output", args.output, combine_lane_.dtype, routing.num_tokens, combine_lane_.num_elements);
  for (const ConstTensorView& bias : args.biases) {
    if (bias) check_token_rows("a bias", bias, combine_lane_.dtype, routing.num_tokens, combine_lane_.num_elements);
  }
  if (args.factors) check_rows("factors", args.factors, DataType::kFloat32, num_rows, 0);
  if (args.use_routing_weights) {
    if (args.factors) fail_argument("give either factors or use_routing_weights, not both");
    if (compact) {
      fail_argument("use_routing_weights needs an expert layout: rows of the compact layout stand for several experts at once");
    }
    if (!routing.has_weights) fail_argument("use_routing_weights needs weights, and the dispatch was given no topk_weights");
  }
  if (static_cast<bool>(args.carried_weights) != static_cast<bool>(args.returned_weights)) {
    fail_argument("carried_weights and returned_weights go together: give both or neither");
  }
  if (args.carried_weights) {
    check_rows("carried_weights", args.carried_weights, DataType::kFloat32, num_rows, compact ? shape_.top_k : 0);
    const TensorView& returned = args.returned_weights;
    if (returned.num_dims != 2 || returned.dtype != DataType::kFloat32 || returned.shape[0] != routing.num_tokens ||
        returned.shape[1] != shape_.top_k || (returned.data == nullptr && routing.num_tokens > 0)) {
      fail_argument("returned_weights must be a float32 tensor of shape [{}, {}]; given: {} {}{}", routing.num_tokens, shape_.top_k,
                    to_string(returned.dtype), shape_text(returned), returned.data == nullptr ? " at a null pointer" : "");
    }
  }
}

int Plan::Impl::find_in_place_slot(const CombineArgs& args, const Routing::Data& routing) const {
  const auto* rows = static_cast<const std::byte*>(args.rows.data);
  for (int slot_idx = 0; slot_idx < kNumSlots; ++slot_idx) {
    const Slot& slot = slots_[slot_idx];
    const std::byte* window = slot.windows[peers_->rank()]->data();
    if (rows < window || rows >= window + slot.layout.num_bytes) continue;
    if (!slot.live.has_value() || slot.live_routing_id != routing.id) {
      fail(ErrorCode::kStale, "rows lie in slot {}, whose result is no longer live or belongs to another Routing", slot_idx);
    }
    const bool as_contributions =
        shape_.layout == Layout::kCompact && !args.factors && rows == window + slot.layout.lanes[0];
    return as_contributions ? slot_idx : -1;
  }
  return -1;
}

void Plan::Impl::combine(const CombineArgs& args) {
  peers_->check();
  const Routing::Data& routing = usable_routing(args.routing);
  check_combine(args, routing);
  const int in_place_slot = find_in_place_slot(args, routing);
  const int rank = peers_->rank();
  const std::chrono::milliseconds timeout = timeout_of(args.timeout);

  const int slot_idx = args.slot >= 0 ? args.slot : next_combine_slot_;
  const Turn turn = signals_->begin(Track::kCombine, slot_idx);
  next_combine_slot_ = (slot_idx + 1) % kNumSlots;
  const CallHeader header{.kind = CallKind::kCombine,
                          .in_place_slot = in_place_slot,
                          .with_weights = static_cast<bool>(args.carried_weights),
                          .routing_id = routing.id};
  for (const int peer : rotated(peers_->members(), rank)) {
    signals_->await_free(turn, peer, Phase::kCombineFree, timeout);
    signals_->post_enter(turn, peer, header);
  }

  // Contributions to own tokens stay where they are if they need no arithmetic.
  const bool compact = shape_.layout == Layout::kCompact;
  const bool own_in_place = compact && !args.factors;
  const auto* rows = static_cast<const std::byte*>(args.rows.data);
  const float* factors = static_cast<const float*>(args.factors.data);
  if (args.use_routing_weights) factors = routing.expanded_weights.data();
  const std::vector<std::byte*> windows = addresses(combine_windows_[slot_idx]);
  if (has_fault(Fault::kSignalBeforeRows)) signals_->post_data(turn);
  host::fold({.dtype = combine_lane_.dtype,
              .row_bytes = combine_lane_.row_bytes(),
              .num_ranks = dimensions_.num_ranks,
              .source_offsets = routing.source_offsets.data(),
              .source_token = routing.source_token.data(),
              .ordinal = routing.recv_ordinal.data(),
              .top_k = shape_.top_k,
              .expanded_row = compact ? nullptr : routing.expanded_row.data(),
              .rows = in_place_slot >= 0 ? nullptr : rows,
              .factors = factors,
              .skip_source = own_in_place ? rank : -1,
              .carried_weights = static_cast<const float*>(args.carried_weights.data),
              .topk_idx = routing.topk_idx.data(),
              .max_fan_out = dimensions_.max_fan_out,
              .layout = &combine_layout_,
              .windows = windows});
  host::finish_copies();
  signals_->post_data(turn);

  std::vector<const std::byte*> in_place(dimensions_.num_ranks, nullptr);
  for (const int peer : peers_->members()) {
    signals_->await_data(turn, peer, Phase::kCombineRows, header, timeout);
    const int peer_slot = signals_->in_place_slot(turn, peer);
    if (peer_slot >= 0) in_place[peer] = slots_[peer_slot].windows[peer]->data() + slots_[peer_slot].layout.lanes[0];
  }
  if (own_in_place) in_place[rank] = rows;

  const std::byte* own_window = windows[rank];
  host::reduce({.dtype = combine_lane_.dtype,
                .row_bytes = combine_lane_.row_bytes(),
                .num_tokens = routing.num_tokens,
                .max_fan_out = dimensions_.max_fan_out,
                .fan_out = routing.fan_out.data(),
                .destination = routing.destination.data(),
                .row = routing.row.data(),
                .returned_rows = own_window + combine_layout_.rows,
                .in_place = in_place,
                .biases = args.biases,
                .output = args.output,
                .top_k = shape_.top_k,
                .ordinal = routing.ordinal.data(),
                .returned_weights = reinterpret_cast<const float*>(own_window + combine_layout_.weights),
                .weights = args.returned_weights});

  // Owners of rows that were read in place may not let go of them before every reader is done.
  for (const int peer : peers_->members()) {
    if (signals_->in_place_slot(turn, peer) >= 0) signals_->post_done(turn, peer);
  }
  if (in_place_slot >= 0) {
    for (const int peer : peers_->members()) signals_->await_done(turn, peer, Phase::kCombineRead, timeout);
  }
  delay_point();
  signals_->post_free(signals_->next(Track::kCombine, slot_idx));
}

}  // namespace tokenyard
