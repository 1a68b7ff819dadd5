// Dispatch on GPUs: count, place, push, and what the layout asks for, as launches in the caller's stream.

#include <algorithm>
#include <exception>
#include <utility>

#include "base/cuda_error.hpp"
#include "base/fail.hpp"
#include "engine/cuda/cuda_plan.hpp"
#include "engine/overlap.hpp"
#include "engine/turn_guard.hpp"
#include "kernels/cuda/expand.hpp"
#include "kernels/cuda/group_by_expert.hpp"
#include "kernels/cuda/index_rows.hpp"
#include "kernels/cuda/push.hpp"
#include "kernels/cuda/quantize.hpp"
#include "memory/current_device.hpp"
#include "memory/side_stream.hpp"

namespace tokenyard {
namespace {

// The value that ends up at `source` when all calls that use the Routing are over.
template <class T>
T fetch(const RoutingMemory& memory, std::chrono::milliseconds timeout, int device, const T* source) {
  const CurrentDevice current(device);
  const Deadline deadline(timeout);
  Backoff backoff(WaitStyle::kYield);
  while (!memory.order.is_over()) {
    if (backoff.pause() && deadline.passed()) {
      fail(ErrorCode::kTimeout, "the GPU has not finished the dispatch within {} ms", timeout.count());
    }
  }
  T value{};
  check_cuda(cudaMemcpyAsync(&value, source, sizeof(value), cudaMemcpyDeviceToHost, side_stream()), "cudaMemcpyAsync");
  check_cuda(cudaStreamSynchronize(side_stream()), "cudaStreamSynchronize");
  return value;
}

// Whether what a dispatch reads lies where its results go. Those must come behind the last row then.
bool are_read(std::span<const TensorView> outputs, const DispatchArgs& args) {
  return std::any_of(outputs.begin(), outputs.end(), [&](const TensorView& output) {
    return overlap(output, args.topk_weights) ||
           std::any_of(args.lanes.begin(), args.lanes.end(),
                       [&](const ConstTensorView& lane) { return overlap(output, lane); });
  });
}

}  // namespace

RoutingBounds CudaPlan::routing_bounds(std::int64_t num_rows) const {
  RoutingBounds bounds;
  bounds.max_tokens = dimensions_.max_tokens;
  bounds.max_fan_out = dimensions_.max_fan_out;
  bounds.top_k = shape_.top_k;
  bounds.num_ranks = dimensions_.num_ranks;
  bounds.max_local_experts = dimensions_.max_local_experts;
  bounds.num_rows = num_rows;
  bounds.is_expanded = shape_.layout != Layout::kCompact;
  if (shape_.layout == Layout::kExpertPadded) {
    bounds.num_expanded_rows = dimensions_.max_local_experts * shape_.expert_capacity;
  } else if (bounds.is_expanded) {
    bounds.num_expanded_rows =
        num_rows * shape_.top_k + static_cast<std::int64_t>(dimensions_.max_local_experts) * (shape_.expert_alignment - 1);
  }
  return bounds;
}

std::shared_ptr<Routing::Data> CudaPlan::make_routing(std::int64_t num_rows) {
  auto routing = std::make_shared<Routing::Data>();
  routing->key = routing_key();
  routing->generation = peers_->generation();
  routing->placement = placement_fingerprint_;
  routing->num_ranks = dimensions_.num_ranks;
  routing->max_fan_out = dimensions_.max_fan_out;
  routing->num_local_experts = num_local_experts();
  const std::shared_ptr<RoutingMemory> memory = routings_->take(routing_bounds(num_rows), was_captured_);
  DeviceRouting& device = routing->device.emplace(memory->arrays);
  device.memory = memory;
  const auto fetched = [memory = memory.get(), timeout = peers_->timeout(), device = memory_.device](const auto* source) {
    return [=] { return fetch(*memory, timeout, device, source); };
  };
  device.fetch_num_recv_rows = fetched(device.source_offsets + dimensions_.num_ranks);
  device.fetch_num_expanded_rows = device.fetch_num_recv_rows;
  if (shape_.layout == Layout::kExpertContiguous) {
    device.fetch_num_expanded_rows = fetched(device.expert_offsets + routing->num_local_experts);
  }
  device.fetch_num_dropped = [fetched, first = device.expert_dropped, num_experts = routing->num_local_experts] {
    std::int64_t num_dropped = 0;
    for (int expert = 0; expert < num_experts; ++expert) num_dropped += fetched(first + expert)();
    return num_dropped;
  };
  return routing;
}

void CudaPlan::check_tensors(const DispatchArgs& args) const {
  for (const ConstTensorView& lane : args.lanes) check_reachable("a lane", lane);
  check_reachable("topk_idx", args.topk_idx);
  check_reachable("topk_weights", args.topk_weights);
  for (const TensorView& output : args.outputs) check_reachable("an output", output);
}

// `count` tells the others and enters, `place` waits for them.
cuda::Handshake CudaPlan::exchange_of_counts(const DispatchCall& call) const {
  cuda::Handshake handshake;
  handshake.signals = signals_of(Track::kDispatch, call.turn.slot, call.timeout);
  handshake.header = {.kind = CallKind::kDispatch,
                      .with_weights = call.header.with_weights,
                      .with_segments = call.header.with_segments,
                      .placement = placement_word_};
  handshake.entry_post = cuda::LineWord::kEnter;
  handshake.entry_wait = cuda::LineWord::kEnter;
  handshake.checks_headers = true;
  handshake.entry_phase = Phase::kDispatchCounts;
  return handshake;
}

void CudaPlan::count(const DispatchArgs& args, const DispatchCall& call, const Routing::Data& routing,
                     const cuda::Launch& launch, const cuda::Handshake& exchange) {
  const SlotScratch& scratch = scratch_[call.turn.slot];
  const DeviceRouting& device = *routing.device;
  const bool tells = exchange.entry_post != cuda::LineWord::kNone;
  cuda::count({.topk_idx = args.topk_idx,
               .placement = {.num_experts = shape_.num_experts, .replicas = replicas_, .first_replica = first_replica_},
               .rank = peers_->rank(),
               .num_ranks = dimensions_.num_ranks,
               .max_fan_out = dimensions_.max_fan_out,
               .max_local_experts = dimensions_.max_local_experts,
               .fan_out = device.fan_out,
               .destination = device.destination,
               .ordinal = device.ordinal,
               .local_idx = device.local_idx,
               .row = device.row,
               .chunk_positions = scratch.chunk_positions,
               .rank_counts = tells ? scratch.rank_count_matrices : nullptr,
               .expert_counts = tells ? scratch.expert_count_matrices : nullptr,
               .handshake = exchange,
               .workspace = scratch.count_workspace},
              launch);
}

void CudaPlan::place_rows(const DispatchCall& call, const Routing::Data& routing, const cuda::Launch& launch,
                          const cuda::Handshake& exchange, std::int64_t capacity) {
  const int slot = call.turn.slot;
  const SlotScratch& scratch = scratch_[slot];
  const DeviceRouting& device = *routing.device;
  const std::byte* control = control_[peers_->rank()]->data();
  const bool grows = shape_.overflow == Overflow::kGrow;
  cuda::place({.rank_counts = reinterpret_cast<const std::int32_t*>(control + control_layout_.rank_counts[slot]),
               .expert_counts = reinterpret_cast<const std::int32_t*>(control + control_layout_.expert_counts[slot]),
               .max_local_experts = dimensions_.max_local_experts,
               .rank = peers_->rank(),
               .num_ranks = dimensions_.num_ranks,
               .capacity = capacity,
               .num_tokens = routing.num_tokens,
               .max_fan_out = dimensions_.max_fan_out,
               .fan_out = device.fan_out,
               .destination = device.destination,
               .row = device.row,
               .chunk_positions = scratch.chunk_positions,
               .chunk_tokens = cuda::count_chunk_tokens(shape_.top_k),
               .source_offsets = device.source_offsets,
               .must_fit = grows,
               .gate = scratch.gate,
               .announced_counts = scratch.announced_counts,
               .num_local_experts = routing.num_local_experts,
               .expert_alignment = shape_.layout == Layout::kExpertContiguous ? shape_.expert_alignment : 0,
               .totals = grows ? &totals_[slot] : nullptr,
               .ticket = num_tickets_,
               .sent = device.sent,
               .host_sent = grows ? host_blocks(slot) : nullptr,
               .host_received = has_carried_windows() ? host_blocks(slot) + dimensions_.num_ranks : nullptr,
               .routing_id = device.id,
               .routing_slot = static_cast<std::uint64_t>(place_.plan_idx) * kNumSlots + static_cast<std::uint64_t>(slot) + 1,
               .handshake = exchange},
              launch);
}

cuda::PlaceTotals CudaPlan::await_totals(const DispatchCall& call) {
  const cuda::PlaceTotals& totals = totals_[call.turn.slot];
  await_gpu(Phase::kDispatchCounts, call.timeout,
            [&] { return __atomic_load_n(&totals.ticket, __ATOMIC_ACQUIRE) == num_tickets_; });
  return totals;
}

void CudaPlan::size_routing(Routing::Data* routing, const cuda::PlaceTotals* totals, int slot_idx) const {
  const std::int64_t capacity = slots_[slot_idx].capacity;
  if (totals != nullptr) {
    const SentBlock* blocks = host_blocks(slot_idx);
    routing->sent.assign(blocks, blocks + dimensions_.num_ranks);
    if (has_carried_windows()) routing->received.assign(blocks + dimensions_.num_ranks, blocks + 2 * dimensions_.num_ranks);
  }
  const bool padded = shape_.layout == Layout::kExpertPadded;
  const bool contiguous = shape_.layout == Layout::kExpertContiguous;
  routing->num_recv_rows = totals == nullptr ? -1 : totals->num_recv_rows;
  routing->max_recv_rows = totals == nullptr ? capacity : totals->max_recv_rows;
  routing->num_view_rows = totals == nullptr ? capacity : totals->num_recv_rows;
  routing->num_expanded_rows = routing->num_recv_rows;
  if (padded) routing->num_expanded_rows = routing->num_local_experts * shape_.expert_capacity;
  if (contiguous && totals != nullptr) routing->num_expanded_rows = totals->num_expanded_rows;
  routing->num_expanded_view_rows = routing->num_expanded_rows;
  if (totals == nullptr && !padded) {
    routing->num_expanded_view_rows = contiguous ? max_expanded_rows(routing->num_local_experts) : capacity;
  }
}

std::vector<ConstTensorView> CudaPlan::lanes_of(const DispatchArgs& args, int slot_idx, const cuda::Launch& launch) {
  std::vector<ConstTensorView> lanes(args.lanes.begin(), args.lanes.end());
  if (!shape_.quantization.has_value()) return lanes;
  const std::int64_t num_tokens = args.lanes[0].shape[0];
  std::byte* const memory = quantized_[slot_idx]->data();
  const TensorView quantized(memory, DataType::kFloat8E4M3, {num_tokens, shape_.lanes[0].num_elements});
  const TensorView scales(memory + static_cast<std::size_t>(shape_.max_tokens) * shape_.lanes[0].row_bytes(),
                          shape_.lanes[1].dtype, {num_tokens, shape_.lanes[1].num_elements});
  cuda::quantize({.values = args.lanes[0], .format = shape_.quantization->format, .quantized = quantized, .scales = scales},
                 launch);
  lanes[0] = quantized;
  lanes.insert(lanes.begin() + 1, scales);
  return lanes;
}

cuda::PushArgs CudaPlan::push_args(std::span<const ConstTensorView> lanes, const DispatchArgs& args,
                                   const DispatchCall& call) const {
  const int slot = call.turn.slot;
  const DeviceRouting& device = *call.routing->device;
  return {.lanes = lanes,
          .layout = &slots_[slot].layout,
          .windows = scratch_[slot].windows,
          .rank = peers_->rank(),
          .num_ranks = dimensions_.num_ranks,
          .num_tokens = call.routing->num_tokens,
          .max_fan_out = dimensions_.max_fan_out,
          .fan_out = device.fan_out,
          .destination = device.destination,
          .row = device.row,
          .top_k = shape_.top_k,
          .ordinal = call.made == nullptr ? nullptr : device.ordinal,
          .local_idx = device.local_idx,
          .topk_weights = args.topk_weights,
          .state = scratch_[slot].state[static_cast<int>(Track::kDispatch)]};
}

void CudaPlan::enter_cached(const DispatchCall& call, cuda::Handshake* handshake) const {
  handshake->header = {.kind = CallKind::kCachedDispatch,
                       .with_segments = call.header.with_segments,
                       .routing_id = call.routing->device->id,
                       .placement = placement_word_};
  handshake->entry_post = cuda::LineWord::kEnter;
  handshake->entry_wait = cuda::LineWord::kEnter;
  handshake->checks_headers = true;
  handshake->entry_phase = Phase::kDispatchFree;
}

bool CudaPlan::may_copy_out(const DispatchCall& call, Halves halves) const {
  return halves == Halves::kTogether && shape_.layout == Layout::kCompact && !call.in_slot && !uses_engines(call.execution) &&
         (call.allocate != nullptr || cuda::can_copy_out(call.outputs));
}

void CudaPlan::push(std::span<const ConstTensorView> lanes, const DispatchArgs& args, DispatchCall* pushed,
                    const cuda::Launch& launch, Halves halves) {
  DispatchCall& call = *pushed;
  cuda::PushArgs push = push_args(lanes, args, call);
  call.is_copied_out = call.header.with_segments && call.output_error == nullptr && cuda::can_copy_out(call.outputs) &&
                       !are_read(call.outputs, args);
  if (call.is_copied_out) {
    push.outputs = call.outputs;
    push.source_offsets = call.routing->device->source_offsets;
  }
  push.segments = segments_of(Track::kDispatch, call.turn.slot);
  push.sent = call.routing->device->sent;
  cuda::Handshake& handshake = push.handshake;
  handshake.signals = signals_of(Track::kDispatch, call.turn.slot, call.timeout);
  if (call.made == nullptr) {
    enter_cached(call, &handshake);
  } else {
    handshake.gate = scratch_[call.turn.slot].gate;
  }
  handshake.exit_post = cuda::LineWord::kData;
  handshake.exit_phase = Phase::kDispatchRows;
  if (halves == Halves::kTogether) {
    handshake.exit_wait = cuda::LineWord::kData;
    handshake.ends_turn = true;
  }
  cuda::push(push, launch);
}

void CudaPlan::index_rows(const DispatchCall& call, const cuda::Launch& launch) {
  const int slot_idx = call.turn.slot;
  const SlotScratch& scratch = scratch_[slot_idx];
  const Slot& slot = slots_[slot_idx];
  const Routing::Data& routing = *call.routing;
  const DeviceRouting& device = *routing.device;
  const std::byte* window = slot.windows[peers_->rank()]->data();
  const bool compact = shape_.layout == Layout::kCompact;
  float* weights = routing.has_weights ? device.topk_weights : nullptr;
  cuda::collect_rows({.all_arrive = shape_.overflow == Overflow::kGrow,
                      .top_k = shape_.top_k,
                      .num_local_experts = routing.num_local_experts,
                      .num_ranks = dimensions_.num_ranks,
                      .source_offsets = device.source_offsets,
                      .received_topk_idx = reinterpret_cast<const std::int32_t*>(window + slot.layout.topk_idx),
                      .received_topk_weights =
                          routing.has_weights ? reinterpret_cast<const float*>(window + slot.layout.topk_weights) : nullptr,
                      .received_source_token = reinterpret_cast<const std::int32_t*>(window + slot.layout.source_token),
                      .received_ordinal = reinterpret_cast<const std::int32_t*>(window + slot.layout.ordinal),
                      .num_view_rows = routing.num_view_rows,
                      .topk_idx = device.topk_idx,
                      .topk_weights = weights,
                      .source_token = device.source_token,
                      .ordinal = device.recv_ordinal,
                      .announced_counts = compact ? scratch.announced_counts : nullptr,
                      .max_local_experts = dimensions_.max_local_experts,
                      .expert_counts = compact ? device.expert_counts : nullptr,
                      .expert_dropped = compact ? device.expert_dropped : nullptr,
                      .workspace = compact ? scratch.expert_workspace : nullptr,
                      .state = compact ? scratch.state[static_cast<int>(Track::kDispatch)] : nullptr},
                     launch);
  if (compact) return;
  cuda::group_by_expert({.layout = shape_.layout,
                         .alignment = shape_.expert_alignment,
                         .capacity = shape_.expert_capacity,
                         .num_local_experts = routing.num_local_experts,
                         .top_k = shape_.top_k,
                         .topk_idx = device.topk_idx,
                         .num_ranks = dimensions_.num_ranks,
                         .source_offsets = device.source_offsets,
                         .expert_counts = device.expert_counts,
                         .expert_offsets = device.expert_offsets,
                         .expanded_row = device.expanded_row,
                         .expert_source_offsets = device.expert_source_offsets,
                         .workspace = scratch.expert_workspace},
                        launch);
  cuda::index_expanded({.top_k = shape_.top_k,
                        .num_local_experts = routing.num_local_experts,
                        .num_ranks = dimensions_.num_ranks,
                        .source_offsets = device.source_offsets,
                        .source_token = device.source_token,
                        .topk_weights = weights,
                        .expert_counts = device.expert_counts,
                        .expert_offsets = device.expert_offsets,
                        .announced_counts = scratch.announced_counts,
                        .max_local_experts = dimensions_.max_local_experts,
                        .expert_dropped = device.expert_dropped,
                        .num_view_rows = routing.num_view_rows,
                        .expanded_row = device.expanded_row,
                        .num_expanded_view_rows = routing.num_expanded_view_rows,
                        .gather_idx = device.gather_idx,
                        .expanded_source_token = device.expanded_source_token,
                        .expanded_weights = routing.has_weights ? device.expanded_weights : nullptr},
                       launch);
}

void CudaPlan::deliver(const DispatchCall& call, const cuda::Launch& launch) {
  if (call.is_copied_out) return;
  const Slot& slot = slots_[call.turn.slot];
  const DeviceRouting& device = *call.routing->device;
  const std::byte* window = slot.windows[peers_->rank()]->data();
  for (std::size_t lane_idx = 0; lane_idx < shape_.lanes.size(); ++lane_idx) {
    const std::byte* received = window + slot.layout.lanes[lane_idx];
    if (call.outputs[lane_idx].data == received) continue;
    cuda::expand({.num_rows = device.source_offsets + dimensions_.num_ranks,
                  .top_k = shape_.top_k,
                  .expanded_row = shape_.layout == Layout::kCompact ? nullptr : device.expanded_row,
                  .row_bytes = shape_.lanes[lane_idx].row_bytes(),
                  .received = received,
                  .expanded = call.outputs[lane_idx]},
                 launch);
    if (shape_.layout == Layout::kExpertContiguous && shape_.expert_alignment > 1) {
      cuda::zero_gaps({.num_local_experts = call.routing->num_local_experts,
                       .expert_counts = device.expert_counts,
                       .expert_offsets = device.expert_offsets,
                       .expanded = call.outputs[lane_idx]},
                      launch);
    }
  }
}

DispatchCall CudaPlan::begin(const DispatchArgs& args, Halves halves, StreamSection* section) {
  peers_->check();
  const CurrentDevice current(memory_.device);
  const int slot_idx = choose_slot(args.slot, next_dispatch_slot_);
  check_dispatch(args, slot_idx);
  check_tensors(args);
  const cuda::Launch launch = launch_of(args.execution);
  const bool cached = args.routing != nullptr;
  Slot& slot = slots_[slot_idx];

  DispatchCall call{};
  call.execution = args.execution;
  call.timeout = timeout_of(args.timeout);
  call.in_slot = args.outputs.empty() && args.allocate == nullptr;
  call.allocate = args.allocate;
  call.outputs.assign(args.outputs.begin(), args.outputs.end());
  call.header.with_segments = may_copy_out(call, halves);
  TurnGuard guard(peers_.get(), Phase::kDispatchRows);
  if (was_captured_) guard.over();  // a capture that fails keeps nobody waiting
  if (!cached) {
    call.made = make_routing(slot.capacity);
    call.made->num_tokens = args.topk_idx.shape[0];
    call.made->has_weights = static_cast<bool>(args.topk_weights);
    call.made->id = (static_cast<std::uint64_t>(peers_->generation()) << 48) +
                    (static_cast<std::uint64_t>(place_.plan_idx) << 32) + ++num_routings_;
  }
  call.routing = cached ? args.routing->data() : call.made;
  call.header.with_weights = static_cast<bool>(args.topk_weights);
  call.turn = next_turn(Track::kDispatch, slot_idx);
  next_dispatch_slot_ = (slot_idx + 1) % kNumSlots;
  slot.live = call.turn;
  slot.live_routing_id = call.routing->id;
  try {
    send(args, &call, launch, halves, section);
  } catch (...) {
    slot.live.reset();
    throw;
  }
  guard.over();
  return call;
}

void CudaPlan::send(const DispatchArgs& args, DispatchCall* sent, const cuda::Launch& launch, Halves halves,
                    StreamSection* section) {
  DispatchCall& call = *sent;
  const int slot_idx = call.turn.slot;
  Slot& slot = slots_[slot_idx];
  const bool grows = shape_.overflow == Overflow::kGrow;
  begin_in_stream(section, args.execution, call.turn, *call.routing);
  const std::vector<ConstTensorView> lanes = lanes_of(args, slot_idx, launch);
  if (call.made == nullptr) {
    if (must_be_opened(slot, call.routing->max_recv_rows)) grow(slot_idx, call.routing->max_recv_rows, call.timeout);
    // Rows in expert layouts may need memory: that is taken when nobody waits for this rank's launch any more.
    if (call.header.with_segments) find_outputs(&call);
    if (uses_engines(args.execution)) {
      OwedCopies owed = pack_rows(lanes, args, call, launch, halves);
      copy_packed(args, call, &owed);
    } else {
      push(lanes, args, &call, launch, halves);
    }
    if (!call.header.with_segments) find_outputs(&call);
    return;
  }
  // A caller who allocates must know the sizes first; the rows wait for that, since they are to go there at once.
  const bool waits_for_outputs = grows && call.allocate != nullptr && call.header.with_segments;
  const bool by_engines = uses_engines(args.execution);
  const bool pushes = !by_engines && !waits_for_outputs;
  ++num_tickets_;
  const cuda::Handshake exchange = exchange_of_counts(call);
  count(args, call, *call.made, launch, exchange);
  const bool is_open = !slot.in_doubt;
  place_rows(call, *call.made, launch, exchange, is_open ? slot.capacity : -1);
  if (!grows) {
    size_routing(call.made.get(), nullptr, slot_idx);
    find_outputs(&call);
    push(lanes, args, &call, launch, halves);
    return;
  }
  // Should the slot turn out too small, the gate keeps the push from working, and the packing.
  OwedCopies owed;
  if (is_open && pushes) push(lanes, args, &call, launch, halves);
  if (is_open && by_engines) owed = pack_rows(lanes, args, call, launch, halves);
  const cuda::PlaceTotals totals = await_totals(call);
  if (must_be_opened(slot, totals.max_recv_rows)) {
    if (owed) {
      const CopySection copies(memory_.device, &copy_streams(call.turn), copy_order(call.turn));
      end_copies(slot_idx, num_copyings_);
      owed.settle();
    }
    grow(slot_idx, totals.max_recv_rows, call.timeout);
    // The Routing needs more memory as well.
    const std::uint64_t id = call.made->id;
    const std::shared_ptr<Routing::Data> small = std::move(call.made);
    call.made = make_routing(slot.capacity);
    call.made->num_tokens = small->num_tokens;
    call.made->has_weights = small->has_weights;
    call.made->id = id;
    call.routing = call.made;
    section->enter(order_of(*call.made));
    ++num_tickets_;
    const cuda::Handshake nothing_new{.signals = exchange.signals};
    count(args, call, *call.made, launch, nothing_new);
    place_rows(call, *call.made, launch, nothing_new, slot.capacity);
    if (pushes) push(lanes, args, &call, launch, halves);
  }
  size_routing(call.made.get(), &totals, slot_idx);
  if (by_engines) {
    if (!owed) owed = pack_rows(lanes, args, call, launch, halves);
    copy_packed(args, call, &owed);
  }
  find_outputs(&call);
  if (waits_for_outputs) push(lanes, args, &call, launch, halves);
}

void CudaPlan::find_outputs(DispatchCall* call) {
  Plan::Impl::find_outputs(call);
  if (call->allocate == nullptr || call->output_error != nullptr) return;
  try {
    for (const TensorView& output : call->outputs) check_reachable("an output", output);
  } catch (...) {
    call->output_error = std::current_exception();
  }
}

Received CudaPlan::complete(DispatchCall* call, Halves halves, StreamSection* section) {
  const CurrentDevice current(memory_.device);
  const int slot_idx = call->turn.slot;
  Slot& slot = slots_[slot_idx];
  if (!is_live(call->turn)) fail(ErrorCode::kStale, "the group has recovered from a failure since this call was begun");
  peers_->check();
  TurnGuard guard(peers_.get(), Phase::kDispatchRows);
  const cuda::Launch launch = launch_of(call->execution);
  if (was_captured_) guard.over();
  slot.live.reset();
  if (halves == Halves::kApart) {
    begin_in_stream(section, {.stream = stream_}, call->turn, *call->routing);
    cuda::Handshake handshake;
    handshake.signals = signals_of(Track::kDispatch, slot_idx, call->timeout);
    handshake.entry_wait = cuda::LineWord::kData;
    handshake.entry_phase = Phase::kDispatchRows;
    handshake.ends_turn = true;
    meet(call->turn, handshake, launch);
  }
  if (call->made != nullptr) index_rows(*call, launch);
  if (call->output_error == nullptr) deliver(*call, launch);
  end_in_stream(section, call->execution);

  const bool stays = call->in_slot && call->output_error == nullptr;
  if (stays) slot.live = call->turn;
  guard.over();
  if (call->output_error != nullptr) std::rethrow_exception(call->output_error);
  const RecvSizes sizes = sizes_of(*call->routing);
  return Received(std::make_unique<Received::Impl>(shared_from_this(), call->turn, stays, sizes, Routing(call->routing),
                                                   std::move(call->outputs)));
}

Received CudaPlan::dispatch(const DispatchArgs& args) {
  StreamSection section(memory_.device, args.execution.stream);
  DispatchCall call = begin(args, Halves::kTogether, &section);
  return complete(&call, Halves::kTogether, &section);
}

DispatchCall CudaPlan::begin(const DispatchArgs& args) {
  StreamSection section(memory_.device, args.execution.stream);
  DispatchCall call = begin(args, Halves::kApart, &section);
  end_in_stream(&section, {.stream = args.execution.stream});
  return call;
}

Received CudaPlan::complete(DispatchCall* call) {
  StreamSection section(memory_.device, call->execution.stream);
  return complete(call, Halves::kApart, &section);
}

}  // namespace tokenyard
