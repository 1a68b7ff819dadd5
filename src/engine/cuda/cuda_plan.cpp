#include "engine/cuda/cuda_plan.hpp"

#include <algorithm>
#include <utility>

#include "base/backoff.hpp"
#include "base/cuda_error.hpp"
#include "base/fail.hpp"
#include "engine/cuda/carve.hpp"
#include "engine/cuda/remains.hpp"
#include "engine/turn_guard.hpp"
#include "kernels/cuda/load.hpp"
#include "kernels/cuda/meet.hpp"
#include "layout/segment.hpp"
#include "memory/current_device.hpp"
#include "memory/device_region.hpp"
#include "memory/side_stream.hpp"

namespace tokenyard {
namespace {

// And behind them, blocks of rows sent and received, for each slot and rank.
std::shared_ptr<cuda::PlaceTotals[]> make_totals(int num_ranks) {
  const std::size_t num_bytes =
      kNumSlots * (sizeof(cuda::PlaceTotals) + static_cast<std::size_t>(2 * num_ranks) * sizeof(SentBlock));
  void* memory = nullptr;
  check_cuda(cudaHostAlloc(&memory, num_bytes, cudaHostAllocPortable | cudaHostAllocMapped), "cudaHostAlloc");
  auto* const totals = static_cast<cuda::PlaceTotals*>(memory);
  std::fill_n(totals, kNumSlots, cuda::PlaceTotals{});
  return {totals, [](cuda::PlaceTotals* pinned) { cudaFreeHost(pinned); }};
}

// Fewer do not fill the link, more disturb each other on it.
constexpr int kChosenSms = 16;
// The kernels of so many plans can wait at once and still all fit on the GPU.
constexpr int kPlansAtOnce = 2;
// Routings that can be live without memory being taken after the plan was made.
constexpr int kReservedRoutings = 4;
// The GPU's own deadlines, which know more, come first.
constexpr std::chrono::milliseconds kGrace{2'000};

Deadline with_grace(std::chrono::milliseconds timeout) { return Deadline(Deadline(timeout).timeout() + kGrace); }

int choose_num_sms(const CudaPlanOptions& options, const cuda::Device& device) {
  if (options.num_sms > 0) return options.num_sms;
  return std::clamp(device.num_sms / (kPlansAtOnce * options.num_ranks_on_gpu), 1, kChosenSms);
}

}  // namespace

std::shared_ptr<Plan::Impl> make_cuda_plan(std::shared_ptr<Peers> peers, const Shape& shape, const PlanPlace& place,
                                           const CudaPlanOptions& options) {
  const CurrentDevice current(peers->device_place().device);
  return std::make_shared<CudaPlan>(std::move(peers), shape, place, options);
}

CudaPlan::CudaPlan(std::shared_ptr<Peers> peers, Shape shape, const PlanPlace& place, const CudaPlanOptions& options)
    : Plan::Impl(peers, std::move(shape), place, peers->device_place()),
      device_(cuda::current_device()),
      num_sms_(choose_num_sms(options, device_)),
      num_ranks_on_gpu_(options.num_ranks_on_gpu) {
  if (shape_.mode != Mode::kThroughput) {
    fail(ErrorCode::kUnsupported,
         "GPU ranks have throughput mode only: set Shape::mode to kThroughput, or use ranks on the host");
  }
  TurnGuard guard(peers_.get(), Phase::kMapping);  // the other ranks wait for this one's memory
  free_remains();
  cuda::load_kernels();
  totals_ = make_totals(dimensions_.num_ranks);
  blocks_ = reinterpret_cast<SentBlock*>(totals_.get() + kNumSlots);
  scratch_memory_ = make_device_region(carve_scratch(nullptr), memory_);
  carve_scratch(scratch_memory_->data());
  routings_ = std::make_shared<RoutingMemoryPool>([this](std::size_t num_bytes) { return own_memory(num_bytes); });
  routings_->reserve(kReservedRoutings, routing_bounds(dimensions_.first_recv_capacity));
  for (int slot = 0; slot < kNumSlots; ++slot) {
    if (shape_.quantization.has_value()) {
      quantized_[slot] =
          own_memory(static_cast<std::size_t>(shape_.max_tokens) * (shape_.lanes[0].row_bytes() + shape_.lanes[1].row_bytes()));
    }
    // Calls that may be captured take no memory.
    if (shape_.overflow == Overflow::kDrop && shape_.layout != Layout::kCompact) {
      const bool padded = shape_.layout == Layout::kExpertPadded;
      ensure_expanded(&slots_[slot], padded ? dimensions_.max_local_experts * shape_.expert_capacity
                                            : max_expanded_rows(dimensions_.max_local_experts));
    }
  }
  if (options.copy_engines && shape_.overflow == Overflow::kGrow) {
    if (num_ranks_on_gpu_ == 1) prepare_engines();
    if (shape_.layout == Layout::kCompact) open_carried_windows();
  }
  // All memory is there: once the last window has been shared, other ranks may launch kernels that wait for this one.
  open_windows();

  const std::vector<std::uint64_t*>& words = peers_->device_failure_words();
  upload(host_failures_, words);
  std::vector<std::uint64_t*> failures(dimensions_.num_ranks, nullptr);
  failures[peers_->rank()] = failure_;
  upload(failures_, failures);
  for (int slot = 0; slot < kNumSlots; ++slot) {
    const auto pointers = [&](const auto& regions, std::size_t offset, auto* kind) {
      std::vector<decltype(kind)> all;
      for (const auto& region : regions) {
        all.push_back(region == nullptr ? nullptr : reinterpret_cast<decltype(kind)>(region->data() + offset));
      }
      return all;
    };
    SlotScratch& scratch = scratch_[slot];
    for (int track = 0; track < kNumTracks; ++track) {
      upload(scratch.segments[track],
             pointers(control_, control_layout_.segments[track][slot], static_cast<std::uint64_t*>(nullptr)));
      upload(scratch.lines[track], pointers(control_, control_layout_.lines[track][slot], static_cast<PeerLine*>(nullptr)));
    }
    upload(scratch.rank_count_matrices,
           pointers(control_, control_layout_.rank_counts[slot], static_cast<std::int32_t*>(nullptr)));
    upload(scratch.expert_count_matrices,
           pointers(control_, control_layout_.expert_counts[slot], static_cast<std::int32_t*>(nullptr)));
    upload(scratch.combine_windows, pointers(combine_windows_[slot], 0, static_cast<std::byte*>(nullptr)));
  }
  upload_placement();
  reset();
  await_mapping(peers_->timeout());
  guard.over();
}

CudaPlan::~CudaPlan() {
  keep_until(calls_are_over(), used_memory());
  const CurrentDevice current(memory_.device, std::nothrow);
  copy_streams_ = {};
}

std::vector<std::shared_ptr<void>> CudaPlan::used_memory() const {
  std::vector<std::shared_ptr<void>> memory{scratch_memory_, routings_, totals_};
  // Where the words of failures are.
  memory.insert(memory.end(), peers_->pages().begin(), peers_->pages().end());
  memory.insert(memory.end(), control_.begin(), control_.end());
  for (int slot = 0; slot < kNumSlots; ++slot) {
    memory.insert(memory.end(), slots_[slot].windows.begin(), slots_[slot].windows.end());
    memory.insert(memory.end(), combine_windows_[slot].begin(), combine_windows_[slot].end());
    memory.insert(memory.end(), {slots_[slot].expanded, slots_[slot].borrowed, quantized_[slot], staging_[slot]});
    memory.insert(memory.end(), carried_windows_[slot].begin(), carried_windows_[slot].end());
  }
  return memory;
}

std::size_t CudaPlan::carve_scratch(std::byte* memory) {
  Carve carve(memory);
  const int num_ranks = dimensions_.num_ranks;
  const std::int64_t num_experts = dimensions_.max_local_experts;
  for (SlotScratch& scratch : scratch_) {
    for (int track = 0; track < kNumTracks; ++track) {
      scratch.state[track] = carve.take<cuda::LaunchState>(1);
      scratch.word[track] = carve.take<std::uint64_t>(1);
      scratch.lines[track] = carve.take<PeerLine*>(num_ranks);
      scratch.segments[track] = carve.take<std::uint64_t*>(num_ranks);
      scratch.segments_done[track] = carve.take<std::uint32_t>(num_ranks * num_segments(dimensions_.max_tokens));
    }
    scratch.announced_counts = carve.take<std::int32_t>(num_ranks * num_experts);
    scratch.rank_count_matrices = carve.take<std::int32_t*>(num_ranks);
    scratch.expert_count_matrices = carve.take<std::int32_t*>(num_ranks);
    scratch.windows = carve.take<std::byte*>(num_ranks);
    scratch.rows = carve.take<const std::byte*>(num_ranks);
    scratch.combine_windows = carve.take<std::byte*>(num_ranks);
    scratch.combine_chunks = carve.take<std::int32_t>(Chunks::kMaxChunks + 1);
    scratch.pack_state = carve.take<cuda::PackState>(1);
    scratch.packed = carve.take<std::uint64_t>(PackOrder::kMaxPieces);
    for (std::uint64_t*& copied : scratch.copied) copied = carve.take<std::uint64_t>(1);
    scratch.gate = carve.take<std::uint32_t>(1);
    scratch.chunk_positions = carve.take<std::int32_t>(num_ranks * cuda::count_chunks(dimensions_.max_tokens, shape_.top_k));
    const std::size_t count_bytes = cuda::count_workspace_bytes(num_ranks, dimensions_.max_local_experts);
    scratch.count_workspace = carve.take<std::byte>(static_cast<std::int64_t>(count_bytes));
    scratch.expert_workspace = carve.take<std::int32_t>(device_.num_sms * num_experts);
  }
  host_failures_ = carve.take<std::uint64_t*>(num_ranks);
  failures_ = carve.take<std::uint64_t*>(num_ranks);
  failure_ = carve.take<std::uint64_t>(1);
  replicas_ = carve.take<Replica>(num_ranks * num_experts);
  first_replica_ = carve.take<std::int32_t>(shape_.num_experts + 1);
  placement_word_ = carve.take<std::uint64_t>(1);
  return carve.num_bytes();
}

void CudaPlan::upload_bytes(void* target, const void* values, std::size_t num_bytes) {
  check_cuda(cudaMemcpyAsync(target, values, num_bytes, cudaMemcpyHostToDevice, side_stream()), "cudaMemcpyAsync");
  check_cuda(cudaStreamSynchronize(side_stream()), "cudaStreamSynchronize");
}

void CudaPlan::upload_placement() {
  std::vector<Replica> replicas;
  std::vector<std::int32_t> first_replica{0};
  for (int expert = 0; expert < shape_.num_experts; ++expert) {
    for (const Replica& replica : placement_.replicas(expert)) replicas.push_back(replica);
    first_replica.push_back(static_cast<std::int32_t>(replicas.size()));
  }
  upload(replicas_, replicas);
  upload(first_replica_, first_replica);
  upload(placement_word_, std::vector<std::uint64_t>{placement_fingerprint_});
}

void CudaPlan::slot_opened(int slot_idx) {
  std::vector<std::byte*> windows;
  std::vector<const std::byte*> rows;
  for (const auto& window : slots_[slot_idx].windows) {
    windows.push_back(window == nullptr ? nullptr : window->data());
    rows.push_back(window == nullptr ? nullptr : window->data() + slots_[slot_idx].layout.lanes[0]);
  }
  upload(scratch_[slot_idx].windows, windows);
  upload(scratch_[slot_idx].rows, rows);
}

std::shared_ptr<MemoryRegion> CudaPlan::own_memory(std::size_t num_bytes) const {
  if (was_captured_ && is_capturing(stream_)) {
    fail(ErrorCode::kUnsupported,
         "this call needs {} bytes that the plan has not taken yet, which cannot be done while a stream is captured: make the "
         "same call once before capturing it, with as many Routings alive, and synchronise with its stream",
         num_bytes);
  }
  return make_device_region(num_bytes, {.device = memory_.device});
}

void CudaPlan::await_gpu(Phase phase, std::chrono::milliseconds timeout, const std::function<bool()>& is_over) {
  const Deadline deadline = with_grace(timeout);
  Backoff backoff(peers_->wait_style());
  while (!is_over()) {
    if (!backoff.pause()) continue;
    peers_->check_members(phase);
    if (!deadline.passed() || is_over()) continue;
    const int rank = peers_->rank();
    peers_->raise({ErrorCode::kTimeout, phase, rank, rank},
                  fmt::format("rank {}: its GPU has not come through {} of plan {} within {} ms: earlier work in the call's "
                              "stream takes too long, or kernels of several groups keep each other from running",
                              rank, to_string(phase), place_.plan_idx, deadline.timeout().count()));
  }
}

void CudaPlan::settle(Stream stream, std::chrono::milliseconds timeout) {
  settled_.leave(stream);
  await_gpu(Phase::kNone, timeout, [this] { return settled_.is_over(); });
}

std::function<bool()> CudaPlan::calls_are_over() const {
  return [all = std::array{orders_, copy_orders_}] {
    return std::all_of(all.begin(), all.end(), [](const std::shared_ptr<Orders>& orders) {
      return std::all_of(orders->begin(), orders->end(), [](const auto& slots) {
        return std::all_of(slots.begin(), slots.end(), [](const StreamOrder& order) { return order.is_over(); });
      });
    });
  };
}

void CudaPlan::retire(std::shared_ptr<MemoryRegion> region) {
  if (region != nullptr) keep_until(calls_are_over(), {std::move(region)});
}

void CudaPlan::grow(int slot_idx, std::int64_t num_rows, std::chrono::milliseconds timeout) {
  settle(stream_, timeout);
  free_remains();
  ensure_capacity(slot_idx, num_rows, timeout);
  const RoutingBounds bounds = routing_bounds(slots_[slot_idx].capacity);
  routings_->drop_smaller(bounds);
  routings_->reserve(kReservedRoutings, bounds);
  await_mapping(timeout);
}

// Before that no rank may launch a kernel that waits for others: CUDA may let whoever maps memory wait for it.
void CudaPlan::await_mapping(std::chrono::milliseconds timeout) {
  constexpr std::size_t kNumBytes = 64;  // of host memory; that it comes is all that is wanted of it
  peers_->share(window_tag(WindowKind::kMapped, 0, num_mappings_++), kNumBytes, Deadline(timeout));
}

cuda::Launch CudaPlan::launch_of(const Execution& execution) {
  if (execution.num_sms < 0 || execution.num_sms > device_.num_sms) {
    fail_argument("num_sms is {} and GPU {} has {}: give 1 to {}, or 0 for the group's choice", execution.num_sms,
                  memory_.device, device_.num_sms, device_.num_sms);
  }
  if (execution.copies == Copies::kBulk && !device_.has_bulk_copies) {
    fail(ErrorCode::kUnsupported, "GPU {} has no asynchronous bulk copies, which came with Hopper: leave copies at kChosen",
         memory_.device);
  }
  if (uses_engines(execution)) check_engines();
  was_captured_ = is_capturing(execution.stream);
  if (shape_.overflow == Overflow::kGrow && was_captured_) {
    fail(ErrorCode::kUnsupported,
         "calls of this plan cannot be captured in a graph, because its slots grow: make the plan with Overflow::kDrop and a "
         "capacity");
  }
  // What went wrong before the call would be taken for a failed launch. The device's own failures come again.
  cudaGetLastError();
  stream_ = execution.stream;
  return {.stream = execution.stream,
          .num_sms = execution.num_sms > 0 ? execution.num_sms : num_sms_,
          .plain_copies = execution.copies == Copies::kPlain};
}

// A pointer to memory that the GPU cannot reach would end the process's use of CUDA.
void CudaPlan::check_reachable(const char* name, const ConstTensorView& tensor) const {
  if (tensor.data == nullptr || tensor.num_elements() == 0) return;
  cudaPointerAttributes attributes{};
  check_cuda(cudaPointerGetAttributes(&attributes, tensor.data), "cudaPointerGetAttributes");
  if (attributes.type == cudaMemoryTypeDevice && attributes.device != memory_.device) {
    fail_argument("{} lies in memory of GPU {}, and this rank's is GPU {}: give memory of that, or pinned host memory", name,
                  attributes.device, memory_.device);
  }
  if (attributes.type == cudaMemoryTypeUnregistered && !device_.reaches_pageable_memory) {
    fail_argument("{} lies in host memory that GPU {} cannot reach: give memory of the GPU, or pinned memory", name,
                  memory_.device);
  }
}

void CudaPlan::begin_in_stream(StreamSection* section, const Execution& execution, const Turn& turn,
                               const Routing::Data& routing) {
  if (execution.wait_for != nullptr) {
    check_cuda(cudaStreamWaitEvent(execution.stream, execution.wait_for, 0), "cudaStreamWaitEvent");
  }
  section->enter({orders_, &(*orders_)[static_cast<int>(turn.track)][turn.slot]});
  section->enter(order_of(routing));
  if (was_captured_) memory_of(routing).is_captured = true;
}

void CudaPlan::end_in_stream(StreamSection* section, const Execution& execution) {
  section->leave();
  if (execution.record != nullptr) check_cuda(cudaEventRecord(execution.record, execution.stream), "cudaEventRecord");
}

cuda::Segments CudaPlan::segments_of(Track track, int slot) const {
  const SlotScratch& scratch = scratch_[slot];
  return {.words = scratch.segments[static_cast<int>(track)],
          .num_done = scratch.segments_done[static_cast<int>(track)],
          .max_segments = static_cast<int>(num_segments(dimensions_.max_tokens))};
}

cuda::Signals CudaPlan::signals_of(Track track, int slot, std::chrono::milliseconds timeout) const {
  return {.rank = peers_->rank(),
          .num_ranks = dimensions_.num_ranks,
          .lines = scratch_[slot].lines[static_cast<int>(track)],
          .own_lines = reinterpret_cast<const PeerLine*>(control_[peers_->rank()]->data() +
                                                         control_layout_.lines[static_cast<int>(track)][slot]),
          .failures = failures_,
          .own_failure = failure_,
          .host_failures = host_failures_,
          .word = scratch_[slot].word[static_cast<int>(track)],
          .timeout_nanoseconds = Deadline(timeout).nanoseconds()};
}

Turn CudaPlan::next_turn(Track track, int slot) {
  return {track, slot, ++turns_[static_cast<int>(track)][slot], peers_->generation()};
}

void CudaPlan::meet(const Turn& turn, const cuda::Handshake& handshake, const cuda::Launch& launch) const {
  cuda::meet({.handshake = handshake, .state = scratch_[turn.slot].state[static_cast<int>(turn.track)]}, launch);
}

bool CudaPlan::is_done(const Turn&) const {
  fail(ErrorCode::kUnsupported,
       "whether a call on a GPU is done says its stream: record an event (Execution::record) and ask for that");
}
bool CudaPlan::wait_done(const Turn& turn, std::chrono::milliseconds) const { return is_done(turn); }
void CudaPlan::call_when_done(const Turn& turn, std::chrono::milliseconds, std::function<void()>) { is_done(turn); }

void CudaPlan::mask_rank(int) {
  fail(ErrorCode::kUnsupported, "ranks can be masked in latency mode only: in throughput mode they write into shared rows");
}

void CudaPlan::place(const PlacementTable& table) {
  const CurrentDevice current(memory_.device);
  quiesce();  // may fail, and then nothing has changed
  Plan::Impl::place(table);
  upload_placement();
}

// The slot's next dispatch says so to the peers, in its stream.
void CudaPlan::release(const Turn& turn) noexcept {
  if (!is_live(turn)) return;
  Slot& slot = slots_[turn.slot];
  slot.live.reset();
  slot.owes_free = slot.num_readings > 0;
}

void CudaPlan::quiesce() {
  const CurrentDevice current(memory_.device);
  const Deadline deadline = with_grace(peers_->timeout());
  Backoff backoff(peers_->wait_style());
  const std::function<bool()> are_over = calls_are_over();
  while (!are_over()) {
    if (!backoff.pause() || !deadline.passed()) continue;
    fail(ErrorCode::kTimeout, "rank {}: calls of plan {} are still under way on the GPU after {} ms", peers_->rank(),
         place_.plan_idx, deadline.timeout().count());
  }
}

void CudaPlan::reset() {
  const CurrentDevice current(memory_.device);
  Plan::Impl::reset();
  num_mappings_ = 0;
  turns_ = {};  // as kernels count: what is carried is announced with the host's number
  upload(failure_, std::vector<std::uint64_t>{0});
  for (SlotScratch& scratch : scratch_) {
    for (int track = 0; track < kNumTracks; ++track) {
      upload(scratch.word[track], std::vector<std::uint64_t>{signal_word(peers_->generation(), 1)});
      upload(scratch.state[track], std::vector<cuda::LaunchState>(1));
      upload(
          scratch.segments_done[track],
          std::vector<std::uint32_t>(static_cast<std::size_t>(dimensions_.num_ranks * num_segments(dimensions_.max_tokens))));
    }
    upload(scratch.pack_state, std::vector<cuda::PackState>(1));
    upload(scratch.packed, std::vector<std::uint64_t>(PackOrder::kMaxPieces, num_copyings_));
    upload(scratch.copied[static_cast<int>(Track::kDispatch)], std::vector<std::uint64_t>{num_copyings_});
    upload(scratch.copied[static_cast<int>(Track::kCombine)], std::vector<std::uint64_t>{0});
  }
}

}  // namespace tokenyard
