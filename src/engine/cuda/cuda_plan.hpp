// A plan whose ranks are GPUs. Calls are sequences of launches in the caller's stream; the host waits only where it must know
// how many rows come (Overflow::kGrow).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/backoff.hpp"
#include "engine/cuda/copy_streams.hpp"
#include "engine/cuda/make_cuda_plan.hpp"
#include "engine/cuda/owed_copies.hpp"
#include "engine/cuda/routing_memory.hpp"
#include "engine/cuda/stream_order.hpp"
#include "engine/plan_impl.hpp"
#include "kernels/cuda/count.hpp"
#include "kernels/cuda/device.hpp"
#include "kernels/cuda/fold.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/pack_rows.hpp"
#include "kernels/cuda/place.hpp"
#include "kernels/cuda/push.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/signals.hpp"
#include "layout/carried_rows.hpp"

namespace tokenyard {

class CudaPlan final : public Plan::Impl {
 public:
  CudaPlan(std::shared_ptr<Peers> peers, Shape shape, const PlanPlace& place, const CudaPlanOptions& options);
  ~CudaPlan() override;

  Received dispatch(const DispatchArgs& args) override;
  void combine(const CombineArgs& args) override;
  DispatchCall begin(const DispatchArgs& args) override;
  Received complete(DispatchCall* call) override;
  CombineCall begin(const CombineArgs& args) override;
  void complete(CombineCall* call) override;

  bool is_done(const Turn& turn) const override;
  bool wait_done(const Turn& turn, std::chrono::milliseconds timeout) const override;
  void call_when_done(const Turn& turn, std::chrono::milliseconds timeout, std::function<void()> callback) override;

  void mask_rank(int rank) override;
  std::vector<int> masked_ranks() const override { return {}; }
  std::vector<PeerCounters> counters() const override { return std::vector<PeerCounters>(dimensions_.num_ranks); }

  void place(const PlacementTable& table) override;
  void release(const Turn& turn) noexcept override;
  void quiesce() override;
  void reset() override;

 private:
  // What kernels of one slot share, on the device.
  struct SlotScratch {
    std::array<cuda::LaunchState*, kNumTracks> state{};
    std::array<std::uint64_t*, kNumTracks> word{};           // of the turn
    std::array<PeerLine**, kNumTracks> lines{};              // [R]
    std::array<std::uint64_t**, kNumTracks> segments{};      // [R]
    std::array<std::uint32_t*, kNumTracks> segments_done{};  // [R, segments]
    std::int32_t* announced_counts = nullptr;                // [R, L]: what all ranks send to this one's experts
    std::int32_t** rank_count_matrices = nullptr;            // [R]
    std::int32_t** expert_count_matrices = nullptr;          // [R]
    std::byte** windows = nullptr;                           // [R]
    const std::byte** rows = nullptr;                        // [R]: lane 0 in the windows
    std::byte** combine_windows = nullptr;                   // [R]
    std::int32_t* combine_chunks = nullptr;                  // [Chunks::kMaxChunks + 1]: the first token of each
    cuda::PackState* pack_state = nullptr;
    // Words of pieces, [PackOrder::kMaxPieces], for which copies wait, and one that stands behind a call's copies: the number
    // of the last call that has come so far, in a combine its signal word.
    std::uint64_t* packed = nullptr;
    std::array<std::uint64_t*, kNumTracks> copied{};
    std::uint32_t* gate = nullptr;
    std::int32_t* chunk_positions = nullptr;  // [R, chunks of count]
    std::byte* count_workspace = nullptr;
    std::int32_t* expert_workspace = nullptr;  // [num_sms, L]
  };

  // Whether the second half of a call follows in the same call, so that one kernel may end the one and begin the other.
  enum class Halves : std::uint8_t { kTogether, kApart };

  void slot_opened(int slot_idx) override;
  void retire(std::shared_ptr<MemoryRegion> region) override;
  std::shared_ptr<MemoryRegion> own_memory(std::size_t num_bytes) const override;
  std::size_t carve_scratch(std::byte* memory);
  void upload_placement();
  // Through the side stream, which kernels that wait do not hold up.
  template <class T>
  static void upload(T* target, const std::vector<T>& values) {
    upload_bytes(target, values.data(), values.size() * sizeof(T));
  }
  static void upload_bytes(void* target, const void* values, std::size_t num_bytes);

  // Throws Error(kInvalidArgument) for options that cannot be, and Error(kUnsupported) for what cannot be captured.
  // Its stream is that of the present call from here on.
  cuda::Launch launch_of(const Execution& execution);
  void check_reachable(const char* name, const ConstTensorView& tensor) const;
  void check_tensors(const DispatchArgs& args) const;
  void check_tensors(const CombineArgs& args) const;
  // Around all launches of a call, or of one of its halves. `routing` is the one that it works with.
  void begin_in_stream(StreamSection* section, const Execution& execution, const Turn& turn, const Routing::Data& routing);
  static void end_in_stream(StreamSection* section, const Execution& execution);
  std::function<bool()> calls_are_over() const;
  // ensure_capacity, when nothing of this rank uses the slot's windows any more.
  void grow(int slot_idx, std::int64_t num_rows, std::chrono::milliseconds timeout);
  // Until all ranks have mapped each other's memory.
  void await_mapping(std::chrono::milliseconds timeout);
  // Until all that was asked of `stream` is over.
  void settle(Stream stream, std::chrono::milliseconds timeout);
  // Memory that launches may use after the plan is gone.
  std::vector<std::shared_ptr<void>> used_memory() const;
  // Until `is_over` says so: throws what ends the group's waits, and Error(kTimeout).
  void await_gpu(Phase phase, std::chrono::milliseconds timeout, const std::function<bool()>& is_over);

  cuda::Segments segments_of(Track track, int slot) const;
  cuda::Signals signals_of(Track track, int slot, std::chrono::milliseconds timeout) const;
  Turn next_turn(Track track, int slot);
  // Where a call posts or waits and there is nothing else to be done.
  void meet(const Turn& turn, const cuda::Handshake& handshake, const cuda::Launch& launch) const;

  // Steps of a dispatch.
  RoutingBounds routing_bounds(std::int64_t num_rows) const;
  std::shared_ptr<Routing::Data> make_routing(std::int64_t num_rows);
  cuda::Handshake exchange_of_counts(const DispatchCall& call) const;
  // Without posts and waits in `exchange`, counts are those that have been exchanged before.
  void count(const DispatchArgs& args, const DispatchCall& call, const Routing::Data& routing, const cuda::Launch& launch,
             const cuda::Handshake& exchange);
  void place_rows(const DispatchCall& call, const Routing::Data& routing, const cuda::Launch& launch,
                  const cuda::Handshake& exchange, std::int64_t capacity);
  SentBlock* host_blocks(int slot) const { return blocks_ + std::ptrdiff_t{2} * slot * dimensions_.num_ranks; }
  cuda::PlaceTotals await_totals(const DispatchCall& call);
  // The lanes that travel: those given, of which FP8 may have to be made first.
  std::vector<ConstTensorView> lanes_of(const DispatchArgs& args, int slot_idx, const cuda::Launch& launch);
  cuda::PushArgs push_args(std::span<const ConstTensorView> lanes, const DispatchArgs& args, const DispatchCall& call) const;
  void enter_cached(const DispatchCall& call, cuda::Handshake* handshake) const;
  // Whether the rows may go on to the caller's tensors in the launch that pushes, while later ones are still coming.
  bool may_copy_out(const DispatchCall& call, Halves halves) const;
  void push(std::span<const ConstTensorView> lanes, const DispatchArgs& args, DispatchCall* call, const cuda::Launch& launch,
            Halves halves);
  void size_routing(Routing::Data* routing, const cuda::PlaceTotals* totals, int slot_idx) const;
  DispatchCall begin(const DispatchArgs& args, Halves halves, StreamSection* section);
  // The launches of begin.
  void send(const DispatchArgs& args, DispatchCall* call, const cuda::Launch& launch, Halves halves, StreamSection* section);
  void find_outputs(DispatchCall* call);
  Received complete(DispatchCall* call, Halves halves, StreamSection* section);
  void index_rows(const DispatchCall& call, const cuda::Launch& launch);
  void deliver(const DispatchCall& call, const cuda::Launch& launch);

  // Steps of a combine.
  CombineCall begin(const CombineArgs& args, Halves halves, StreamSection* section);
  void complete(CombineCall* call, Halves halves, StreamSection* section);
  // The second half comes now: dispatches made behind it may take the slot whose rows are read in place.
  void end_reading(const CombineCall& call);
  // copy_engine.cpp, carry_rows.cpp: the same where copy engines carry the rows.
  static bool uses_engines(const Execution& execution) { return execution.copies == Copies::kEngine; }
  // Throws Error(kUnsupported) for what copy engines cannot do.
  void check_engines() const;
  void check_engines(const CombineCall& call) const;
  // Takes all that calls by copy engines need: taken later, it might wait for the kernels of peers that wait for this rank.
  void prepare_engines();
  // There is room for the most rows that so many tokens can send: packing begins before the host knows how many go.
  DispatchLayout staged_layout(std::int64_t num_tokens) const;
  // The launch waits for copies: copy_packed() must follow, or end_copies() if the launch finds its gate closed.
  OwedCopies pack_rows(std::span<const ConstTensorView> lanes, const DispatchArgs& args, const DispatchCall& call,
                       const cuda::Launch& launch, Halves halves);
  // When the host knows how much there is.
  void copy_packed(const DispatchArgs& args, const DispatchCall& call, OwedCopies* owed);
  // Writes the word behind a dispatch's copies: `number`, or that there are none.
  void end_copies(int slot_idx, std::uint64_t number);
  void refuse_copies(const Turn& turn) noexcept;
  CopyStreams& copy_streams(const Turn& turn) { return *copy_streams_[static_cast<int>(turn.track)][turn.slot]; }
  std::shared_ptr<StreamOrder> copy_order(const Turn& turn) const {
    return {copy_orders_, &(*copy_orders_)[static_cast<int>(turn.track)][turn.slot]};
  }
  // In groups with copy engines, to all ranks, whether their own calls can use them or not.
  void open_carried_windows();
  bool has_carried_windows() const { return !carried_windows_[0].empty(); }
  // Behind what `launch.stream` has been asked for, in which this rank has entered the turn.
  void carry_rows(const CombineCall& call, const cuda::Launch& launch);
  void reduce_carried(const CombineCall& call, cuda::ReduceArgs reduce, const cuda::Launch& launch);

  bool reads_own_rows(const CombineArgs& args) const;
  // Who takes part, and what this rank says about the call.
  cuda::Handshake combine_handshake(const CombineCall& call) const;
  cuda::Handshake entering_handshake(const CombineCall& call) const;
  cuda::FoldArgs fold_args(const CombineCall& call) const;
  void fold(const CombineCall& call, const cuda::Launch& launch);

  cuda::Device device_;
  int num_sms_;  // of a call that does not say
  int num_ranks_on_gpu_;
  std::shared_ptr<RoutingMemoryPool> routings_;
  std::shared_ptr<MemoryRegion> scratch_memory_;
  std::array<SlotScratch, kNumSlots> scratch_{};
  std::uint64_t** host_failures_ = nullptr;  // [R]
  std::uint64_t** failures_ = nullptr;       // [R]: this rank's own alone, the next; the others are told through their hosts
  std::uint64_t* failure_ = nullptr;
  Replica* replicas_ = nullptr;
  std::int32_t* first_replica_ = nullptr;
  std::uint64_t* placement_word_ = nullptr;  // its fingerprint
  using Orders = std::array<std::array<StreamOrder, kNumSlots>, kNumTracks>;
  std::shared_ptr<Orders> orders_ = std::make_shared<Orders>();
  std::array<std::array<std::uint64_t, kNumSlots>, kNumTracks> turns_{};  // calls made, as the host counts
  std::array<std::shared_ptr<MemoryRegion>, kNumSlots> quantized_;        // values, then scales
  SentBlock* blocks_ = nullptr;                  // [kNumSlots, 2, R]: sent, then received; pinned, behind the totals
  std::shared_ptr<cuda::PlaceTotals[]> totals_;  // [kNumSlots], pinned
  std::uint64_t num_tickets_ = 0;
  std::uint32_t num_mappings_ = 0;
  Stream stream_ = nullptr;    // of the last call
  bool was_captured_ = false;  // the last call was: its stream may be capturing still
  StreamOrder settled_;

  // Copy engines, in groups that use them.
  std::array<std::shared_ptr<MemoryRegion>, kNumSlots> staging_;  // for packed rows
  CarriedLayout carried_layout_{};
  std::array<std::vector<std::shared_ptr<MemoryRegion>>, kNumSlots> carried_windows_;  // by combine slot, then rank
  bool streams_wait_for_words_ = false;
  bool launches_block_ = false;
  std::uint64_t num_copyings_ = 0;  // the number of the last dispatch by copy engines
  // A call's copies wait for nobody else's.
  std::array<std::array<std::unique_ptr<CopyStreams>, kNumSlots>, kNumTracks> copy_streams_;
  std::shared_ptr<Orders> copy_orders_ = std::make_shared<Orders>();
};

}  // namespace tokenyard
