// Combine on GPUs: fold and reduce, or reduce alone where the contributions can be read in the slots.

#include <utility>

#include "base/fail.hpp"
#include "engine/cuda/cuda_plan.hpp"
#include "engine/overlap.hpp"
#include "engine/turn_guard.hpp"
#include "kernels/cuda/fold.hpp"
#include "kernels/cuda/fold_reduce.hpp"
#include "kernels/cuda/reduce.hpp"
#include "memory/current_device.hpp"

namespace tokenyard {
namespace {

// Whether this rank sends anything to the tokens' homes.
bool sends(const CombineCall& call) { return call.header.in_place_slot < 0 || call.args.carried_weights; }

// Whether a launch of its own stands before the sums, and enters the turn if nothing is sent: where the sums come in another
// call (`apart`), and where copies follow it.
bool meets_first(const CombineCall& call, bool apart) { return call.header.carries_rows || (apart && !sends(call)); }

// The entry of a rank that sends nothing.
void enter_at_once(cuda::Handshake* handshake) {
  handshake->entry_post = cuda::LineWord::kEnter;
  handshake->posts_data_at_entry = true;
}

// Whether what a combine sends lies where it writes a result. All must have been sent then before anything is summed.
bool are_read(const TensorView& result, const CombineArgs& args) {
  return overlap(result, args.rows) || overlap(result, args.factors) || overlap(result, args.carried_weights);
}

}  // namespace

// Bulk copies read 16 bytes at a time.
bool CudaPlan::reads_own_rows(const CombineArgs& args) const {
  return own_stay_in_place(args) && reinterpret_cast<std::uintptr_t>(args.rows.data) % 16 == 0;
}

void CudaPlan::check_tensors(const CombineArgs& args) const {
  check_reachable("rows", args.rows);
  check_reachable("factors", args.factors);
  check_reachable("carried_weights", args.carried_weights);
  check_reachable("returned_weights", args.returned_weights);
  check_reachable("a bias", args.biases[0]);
  check_reachable("a bias", args.biases[1]);
  check_reachable("output", args.output);
}

cuda::Handshake CudaPlan::combine_handshake(const CombineCall& call) const {
  cuda::Handshake handshake;
  handshake.signals = signals_of(Track::kCombine, call.turn.slot, call.timeout);
  handshake.enters_behind_done = true;
  handshake.header = {.kind = CallKind::kCombine,
                      .in_place_slot = call.header.in_place_slot,
                      .with_weights = call.header.with_weights,
                      .with_segments = call.header.with_segments,
                      .carries_rows = call.header.carries_rows,
                      .routing_id = call.routing->device->id};
  return handshake;
}

cuda::Handshake CudaPlan::entering_handshake(const CombineCall& call) const {
  cuda::Handshake handshake = combine_handshake(call);
  handshake.entry_post = cuda::LineWord::kEnter;
  handshake.entry_wait = cuda::LineWord::kEnter;
  handshake.checks_headers = true;
  handshake.entry_phase = Phase::kCombineFree;
  return handshake;
}

cuda::FoldArgs CudaPlan::fold_args(const CombineCall& call) const {
  const SlotScratch& scratch = scratch_[call.turn.slot];
  const CombineArgs& args = call.args;
  const DeviceRouting& device = *call.routing->device;
  const float* factors = static_cast<const float*>(args.factors.data);
  if (args.use_routing_weights) factors = device.expanded_weights;
  return {.dtype = combine_lane_.dtype,
          .row_bytes = combine_lane_.row_bytes(),
          .as_float8 = shape_.combine_as_float8,
          .returned_row_bytes = returned_row_bytes(shape_),
          .num_ranks = dimensions_.num_ranks,
          .source_offsets = device.source_offsets,
          .source_token = device.source_token,
          .ordinal = device.recv_ordinal,
          .max_fan_out = dimensions_.max_fan_out,
          .top_k = shape_.top_k,
          .expanded_row = shape_.layout == Layout::kCompact ? nullptr : device.expanded_row,
          .rows = call.header.in_place_slot >= 0 ? nullptr : static_cast<const std::byte*>(args.rows.data),
          .factors = factors,
          .skip_source = reads_own_rows(args) ? peers_->rank() : -1,
          .carried_weights = static_cast<const float*>(args.carried_weights.data),
          .topk_idx = device.topk_idx,
          .layout = &combine_layout_,
          .windows = scratch.combine_windows,
          .state = scratch.state[static_cast<int>(Track::kCombine)]};
}

void CudaPlan::fold(const CombineCall& call, const cuda::Launch& launch) {
  cuda::FoldArgs fold = fold_args(call);
  fold.handshake = entering_handshake(call);
  fold.handshake.exit_post = cuda::LineWord::kData;
  cuda::fold(fold, launch);
}

CombineCall CudaPlan::begin(const CombineArgs& args, Halves halves, StreamSection* section) {
  peers_->check();
  const CurrentDevice current(memory_.device);
  const Routing::Data& routing = usable_routing(args.routing);
  const int slot_idx = choose_slot(args.slot, next_combine_slot_);
  if (combine_pending_[slot_idx]) {
    fail_argument("slot {} still has a combine that was begun: complete it first (at most {} are under way at once)", slot_idx,
                  kNumSlots);
  }
  check_combine(args, routing);
  check_tensors(args);
  const cuda::Launch launch = launch_of(args.execution);
  CombineCall call{};
  call.routing = args.routing->data();
  call.args = args;
  call.timeout = timeout_of(args.timeout);
  call.header.in_place_slot = find_in_place_slot(args, routing);
  call.header.with_weights = static_cast<bool>(args.carried_weights);
  call.header.carries_rows = uses_engines(args.execution);
  check_engines(call);
  // Both halves in one launch: what has come is summed while the rest is on its way.
  call.header.with_segments = halves == Halves::kTogether && call.header.in_place_slot < 0 && !shape_.combine_as_float8 &&
                              !are_read(args.output, args) && !are_read(args.returned_weights, args);
  call.turn = next_turn(Track::kCombine, slot_idx);
  TurnGuard guard(peers_.get(), Phase::kCombineRows);
  if (was_captured_) guard.over();  // a capture that fails keeps nobody waiting
  next_combine_slot_ = (slot_idx + 1) % kNumSlots;
  begin_in_stream(section, args.execution, call.turn, routing);
  if (sends(call) && !call.header.with_segments) fold(call, launch);
  if (meets_first(call, halves == Halves::kApart)) {
    cuda::Handshake handshake = combine_handshake(call);
    if (!sends(call)) enter_at_once(&handshake);
    meet(call.turn, handshake, launch);
  }
  if (call.header.carries_rows) carry_rows(call, launch);
  combine_pending_[slot_idx] = true;
  if (call.header.in_place_slot >= 0) ++slots_[call.header.in_place_slot].num_readings;
  guard.over();
  return call;
}

void CudaPlan::end_reading(const CombineCall& call) {
  combine_pending_[call.turn.slot] = false;
  if (call.header.in_place_slot < 0) return;
  Slot& slot = slots_[call.header.in_place_slot];
  if (--slot.num_readings == 0) slot.owes_free = false;
}

void CudaPlan::complete(CombineCall* call, Halves halves, StreamSection* section) {
  if (call->turn.generation != peers_->generation()) {
    fail(ErrorCode::kStale, "the group has recovered from a failure since this call was begun");
  }
  const CurrentDevice current(memory_.device);
  const int slot = call->turn.slot;
  const SlotScratch& scratch = scratch_[slot];
  const CombineArgs& args = call->args;
  const DeviceRouting& device = *call->routing->device;
  end_reading(*call);
  peers_->check();
  TurnGuard guard(peers_.get(), Phase::kCombineRows);
  const cuda::Launch launch = launch_of(args.execution);
  if (was_captured_) guard.over();
  if (halves == Halves::kApart) begin_in_stream(section, {.stream = stream_}, call->turn, *call->routing);
  const bool folds = call->header.with_segments;
  cuda::Handshake handshake = folds ? entering_handshake(*call) : combine_handshake(*call);
  if (!folds) {
    if (!sends(*call) && !meets_first(*call, halves == Halves::kApart)) enter_at_once(&handshake);
    handshake.reads_calls = true;
    handshake.checks_headers = !sends(*call);
    handshake.entry_wait = cuda::LineWord::kData;
    handshake.entry_phase = Phase::kCombineRows;
  }
  handshake.exit_post = cuda::LineWord::kDone;  // for the peers' next combines; see combine_handshake()
  if (call->header.in_place_slot >= 0 && !call->header.carries_rows) {
    // What the caller's stream does next may change rows that the others read.
    handshake.exit_wait = cuda::LineWord::kDone;
    handshake.exit_phase = Phase::kCombineRead;
  }
  handshake.ends_turn = true;
  const std::byte* own_window = combine_windows_[slot][peers_->rank()]->data();
  const cuda::ReduceArgs reduce{.dtype = combine_lane_.dtype,
                                .row_bytes = combine_lane_.row_bytes(),
                                .as_float8 = shape_.combine_as_float8,
                                .returned_row_bytes = returned_row_bytes(shape_),
                                .num_tokens = call->routing->num_tokens,
                                .max_fan_out = dimensions_.max_fan_out,
                                .num_ranks = dimensions_.num_ranks,
                                .fan_out = device.fan_out,
                                .destination = device.destination,
                                .row = device.row,
                                .in_place = {scratch_[0].rows, scratch_[1].rows},
                                .rank = peers_->rank(),
                                .own_rows = reads_own_rows(args) ? static_cast<const std::byte*>(args.rows.data) : nullptr,
                                .returned_rows = own_window + combine_layout_.rows,
                                .biases = args.biases,
                                .output = args.output,
                                .top_k = shape_.top_k,
                                .ordinal = device.ordinal,
                                .returned_weights = reinterpret_cast<const float*>(own_window + combine_layout_.weights),
                                .weights = args.returned_weights,
                                .handshake = handshake,
                                .state = scratch.state[static_cast<int>(Track::kCombine)]};
  if (folds) {
    cuda::fold_and_reduce(
        {.fold = fold_args(*call), .reduce = reduce, .segments = segments_of(Track::kCombine, slot), .sent = device.sent},
        launch);
  } else if (call->header.carries_rows) {
    reduce_carried(*call, reduce, launch);
  } else {
    cuda::reduce(reduce, launch);
  }
  end_in_stream(section, args.execution);
  guard.over();
}

void CudaPlan::combine(const CombineArgs& args) {
  StreamSection section(memory_.device, args.execution.stream);
  CombineCall call = begin(args, Halves::kTogether, &section);
  complete(&call, Halves::kTogether, &section);
}

CombineCall CudaPlan::begin(const CombineArgs& args) {
  StreamSection section(memory_.device, args.execution.stream);
  CombineCall call = begin(args, Halves::kApart, &section);
  end_in_stream(&section, {.stream = args.execution.stream});
  return call;
}

void CudaPlan::complete(CombineCall* call) {
  StreamSection section(memory_.device, call->args.execution.stream);
  complete(call, Halves::kApart, &section);
}

}  // namespace tokenyard
