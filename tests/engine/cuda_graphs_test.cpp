// A layer of capacity output, captured in a CUDA graph once and replayed with other rows and other top-k ids.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "tests/engine/meeting_point.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/reference/routing.hpp"
#include "tests/support/gpu_rank.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/random_bits.hpp"
#include "tests/support/run_ranks.hpp"
#include "tests/support/spin_kernel.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 4;
constexpr int kNumReplays = 1000;
constexpr int kNumInputs = 20;
constexpr int kNumUnderWay = 25;  // replays between two looks at their results
constexpr int kNumSms = 8;        // 4 ranks with two streams each fit on one GPU
constexpr int kTopK = 4;
constexpr int kNumExperts = 10;  // the last rank has fewer
constexpr std::int64_t kHidden = 64;
constexpr std::int64_t kMaxTokens = 16;

// Where the experts' outputs are when they are combined.
enum class Outputs { kElsewhere, kOverRows, kBorrowed };

struct Layer {
  const char* name;
  Layout layout;
  Outputs outputs = Outputs::kElsewhere;
  std::int64_t recv_capacity = 0;
  bool into_given_tensors = false;  // what dispatch delivers

  Shape shape() const {
    Shape shape;
    shape.num_experts = kNumExperts;
    shape.top_k = kTopK;
    shape.max_tokens = kMaxTokens;
    shape.lanes = {{DataType::kFloat32, kHidden}};
    shape.layout = layout;
    shape.overflow = Overflow::kDrop;
    shape.recv_capacity = recv_capacity;
    if (layout == Layout::kExpertContiguous) shape.expert_alignment = 4;
    return shape;
  }
};

constexpr Layer kCompact{.name = "compact", .layout = Layout::kCompact};
constexpr Layer kContiguous{.name = "contiguous", .layout = Layout::kExpertContiguous};

// Fewer on higher ranks.
std::int64_t num_tokens_of(int rank) { return kMaxTokens - 3 * rank; }

// Small integers, whose sums are exact.
float value_of(int rank, int input, std::int64_t token, std::int64_t column) {
  return static_cast<float>(((rank * kNumInputs + input) * kMaxTokens + token) * kHidden + column);
}

// What the ranks send in each of the inputs, and what must come of it.
class Inputs {
 public:
  explicit Inputs(const Layer& layer) : layer_(layer) {
    reference::World world;
    world.num_ranks = kNumRanks;
    world.num_experts = kNumExperts;
    world.top_k = kTopK;
    world.arrangement = is_compact() ? reference::Arrangement::kCompact : reference::Arrangement::kContiguous;
    world.alignment = layer.shape().expert_alignment;
    if (layer.recv_capacity > 0) world.recv_capacity = layer.recv_capacity;
    for (int input = 0; input < kNumInputs; ++input) {
      RandomBits random(seed_of(5, input));
      sent_.emplace_back();
      for (int rank = 0; rank < kNumRanks; ++rank) sent_.back().push_back(make_sent(rank, &random));
      routed_.push_back(reference::route(world, sent_.back()));
    }
  }

  bool is_compact() const { return layer_.layout == Layout::kCompact; }
  const std::vector<std::int64_t>& ids(int input, int rank) const { return sent_[input][rank].ids; }
  const reference::Arrived& arrived(int input, int rank) const { return routed_[input].at[rank]; }

  // How many rows a combine sums for a token.
  int num_terms(int input, int rank, std::int64_t token) const {
    int num_terms = 0;
    for (const reference::Visit& visit : routed_[input].visits[rank][token]) {
      if (visit.row < 0) continue;
      num_terms += is_compact() ? 1 : static_cast<int>(std::ranges::count(visit.serves_k, true));
    }
    return num_terms;
  }

 private:
  static reference::Sent make_sent(int rank, RandomBits* random) {
    enum class Pattern { kAny, kSome, kOneExpert, kNone };
    const auto pattern = random->pick({Pattern::kAny, Pattern::kAny, Pattern::kSome, Pattern::kOneExpert, Pattern::kNone});
    reference::Sent sent;
    sent.num_tokens = num_tokens_of(rank);
    const std::int64_t favourite = random->from(0, kNumExperts - 1);
    for (std::int64_t pair = 0; pair < sent.num_tokens * kTopK; ++pair) {
      std::int64_t id = random->from(0, kNumExperts - 1);
      if (pattern == Pattern::kOneExpert) id = favourite;
      if (pattern == Pattern::kNone || (pattern == Pattern::kSome && random->one_in(2))) id = -1;
      sent.ids.push_back(id);
    }
    return sent;
  }

  Layer layer_;
  std::vector<std::vector<reference::Sent>> sent_;  // by input, then rank
  std::vector<reference::Routed> routed_;           // by input
};

// An array in an arena of a rank.
template <class T>
class Piece {
 public:
  Piece(Arena* arena, std::int64_t num_elements)
      : arena_(arena), num_elements_(num_elements), bytes_(arena->take(num_elements * sizeof(T))) {
    if (bytes_ == nullptr) throw std::runtime_error("gpu_rank.cpp takes too little memory for this test");
  }
  ~Piece() { arena_->give_back(bytes_); }
  Piece(const Piece&) = delete;
  Piece& operator=(const Piece&) = delete;

  T* data() const { return reinterpret_cast<T*>(bytes_); }
  std::size_t num_bytes() const { return num_elements_ * sizeof(T); }

 private:
  Arena* arena_;
  std::int64_t num_elements_;
  std::byte* bytes_;
};

// A plan of one rank with tensors at fixed addresses, its captured graph, and what the latest replays have left.
class GraphRank {
 public:
  GraphRank(const Group& group, const Layer& layer, const Inputs& inputs, GpuRank* gpu, cudaStream_t stream)
      : layer_(layer),
        inputs_(inputs),
        rank_(group.rank()),
        num_tokens_(num_tokens_of(rank_)),
        gpu_(gpu),
        stream_(stream),
        plan_(group.plan(layer.shape())),
        num_rows_(tensor_rows(layer, plan_)),
        prepared_rows_(&gpu->on_device(), kNumInputs * num_tokens_ * kHidden),
        prepared_ids_(&gpu->on_device(), kNumInputs * num_tokens_ * kTopK),
        rows_(&gpu->on_device(), num_tokens_ * kHidden),
        ids_(&gpu->on_device(), num_tokens_ * kTopK),
        delivered_(&gpu->on_device(), num_rows_ * kHidden),
        arrived_(&gpu->on_device(), num_rows_ * kHidden),
        output_(&gpu->on_device(), num_tokens_ * kHidden),
        seen_arrived_(&gpu->pinned(), kNumUnderWay * num_rows_ * kHidden),
        seen_output_(&gpu->pinned(), kNumUnderWay * num_tokens_ * kHidden),
        seen_source_token_(&gpu->pinned(), kNumUnderWay * plan_.sizes().recv_capacity),
        seen_source_offsets_(&gpu->pinned(), kNumUnderWay * (kNumRanks + 1)) {
    std::vector<float> rows;
    std::vector<std::int32_t> ids;
    for (int input = 0; input < kNumInputs; ++input) {
      for (std::int64_t token = 0; token < num_tokens_; ++token) {
        for (std::int64_t column = 0; column < kHidden; ++column) rows.push_back(value_of(rank_, input, token, column));
      }
      for (const std::int64_t id : inputs.ids(input, rank_)) ids.push_back(static_cast<std::int32_t>(id));
    }
    const auto copy = [&](void* to, const auto& from, std::size_t num_bytes) {
      gpu->copy_to_device(static_cast<std::byte*>(to), reinterpret_cast<const std::byte*>(from.data()), num_bytes);
    };
    copy(prepared_rows_.data(), rows, prepared_rows_.num_bytes());
    copy(prepared_ids_.data(), ids, prepared_ids_.num_bytes());
  }

  ~GraphRank() {
    cudaStreamSynchronize(stream_);
    if (graph_ != nullptr) cudaGraphExecDestroy(graph_);
  }
  GraphRank(const GraphRank&) = delete;
  GraphRank& operator=(const GraphRank&) = delete;

  // Collective. The slot's first call takes memory, which a captured one must not.
  void capture(int slot) {
    call(0, slot);
    check("before the capture");
    cudaGraph_t captured = nullptr;
    check_cuda(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    routing_of_graph_ = enqueue_layer(slot);
    check_cuda(cudaStreamEndCapture(stream_, &captured), "cudaStreamEndCapture");
    check_cuda(cudaGraphInstantiate(&graph_, captured, 0), "cudaGraphInstantiate");
    check_cuda(cudaGraphDestroy(captured), "cudaGraphDestroy");
    check_cuda(cudaGraphUpload(graph_, stream_), "cudaGraphUpload");
    check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  }

  void replay(int input) {
    set_input(input);
    check_cuda(cudaGraphLaunch(graph_, stream_), "cudaGraphLaunch");
    keep_results(input, routing_of_graph_);
  }

  // The same as an ordinary call.
  void call(int input, int slot) {
    set_input(input);
    routings_.push_back(enqueue_layer(slot));
    keep_results(input, routings_.back());
  }

  bool is_full() const { return kept_inputs_.size() == kNumUnderWay; }

  // Waits for what has been enqueued, and compares it. `when` says which replay was the last.
  void check(const std::string& when) {
    check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
    routings_.clear();
    for (std::size_t place = 0; place < kept_inputs_.size() && !testing::Test::HasFailure(); ++place) {
      SCOPED_TRACE(std::string(layer_.name) + ", rank " + std::to_string(rank_) + ", " + when + ", result " +
                   std::to_string(place) + ", input " + std::to_string(kept_inputs_[place]));
      check_arrived(kept_inputs_[place], static_cast<std::int64_t>(place));
      check_output(kept_inputs_[place], static_cast<std::int64_t>(place));
    }
    kept_inputs_.clear();
  }

 private:
  static std::int64_t tensor_rows(const Layer& layer, const Plan& plan) {
    const std::int64_t num_rows = plan.sizes().recv_capacity;
    if (layer.layout == Layout::kCompact) return num_rows;
    return num_rows * kTopK + plan.num_local_experts() * (layer.shape().expert_alignment - 1);
  }

  void copy(void* to, const void* from, std::size_t num_bytes) const {
    check_cuda(cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyDefault, stream_), "cudaMemcpyAsync");
  }

  void set_input(int input) {
    copy(rows_.data(), prepared_rows_.data() + input * num_tokens_ * kHidden, rows_.num_bytes());
    copy(ids_.data(), prepared_ids_.data() + input * num_tokens_ * kTopK, ids_.num_bytes());
    for (const auto* poisoned : {&delivered_, &arrived_, &output_}) {
      check_cuda(cudaMemsetAsync(poisoned->data(), 0xff, poisoned->num_bytes(), stream_), "cudaMemsetAsync");
    }
  }

  // Dispatch, experts that change nothing, combine.
  Routing enqueue_layer(int slot) {
    const ConstTensorView lane = tensor(std::as_const(*rows_.data()), num_tokens_, kHidden);
    DispatchArgs dispatch;
    dispatch.lanes = {&lane, 1};
    dispatch.topk_idx = tensor(std::as_const(*ids_.data()), num_tokens_, kTopK);
    dispatch.slot = slot;
    dispatch.execution.stream = stream_;
    const TensorView delivered = mutable_tensor(delivered_.data());
    if (layer_.into_given_tensors) dispatch.outputs = {&delivered, 1};
    Received received = plan_.dispatch(dispatch);

    const TensorView arrived = received.lane(0);
    copy(arrived_.data(), arrived.data, arrived_.num_bytes());
    CombineArgs combine;
    const Routing routing = received.routing();
    combine.routing = &routing;
    combine.rows = outputs_of_experts(received);
    combine.output = {output_.data(), DataType::kFloat32, {num_tokens_, kHidden}};
    combine.slot = slot;
    combine.execution.stream = stream_;
    plan_.combine(combine);
    return routing;
  }

  ConstTensorView outputs_of_experts(const Received& received) {
    switch (layer_.outputs) {
      case Outputs::kElsewhere: return mutable_tensor(arrived_.data());
      case Outputs::kOverRows: return received.lane(0);
      case Outputs::kBorrowed: break;
    }
    const TensorView buffer = received.combine_buffer();
    copy(buffer.data, arrived_.data(), arrived_.num_bytes());
    return buffer;
  }

  template <class T>
  static ConstTensorView tensor(const T& first, std::int64_t num_rows, std::int64_t num_columns) {
    return {&first, data_type_of<T>(), {num_rows, num_columns}};
  }
  TensorView mutable_tensor(float* data) const { return {data, DataType::kFloat32, {num_rows_, kHidden}}; }

  void keep_results(int input, const Routing& routing) {
    const auto place = static_cast<std::int64_t>(kept_inputs_.size());
    const std::int64_t num_source_rows = plan_.sizes().recv_capacity;
    copy(seen_arrived_.data() + place * num_rows_ * kHidden, arrived_.data(), arrived_.num_bytes());
    copy(seen_output_.data() + place * num_tokens_ * kHidden, output_.data(), output_.num_bytes());
    copy(seen_source_token_.data() + place * num_source_rows, routing.source_token().data,
         num_source_rows * sizeof(std::int32_t));
    copy(seen_source_offsets_.data() + place * (kNumRanks + 1), routing.source_offsets().data,
         (kNumRanks + 1) * sizeof(std::int64_t));
    kept_inputs_.push_back(input);
  }

  void check_arrived(int input, std::int64_t place) const {
    const reference::Arrived& expected = inputs_.arrived(input, rank_);
    const std::int64_t* offsets = seen_source_offsets_.data() + place * (kNumRanks + 1);
    ASSERT_EQ(std::vector<std::int64_t>(offsets, offsets + kNumRanks + 1), expected.source_offsets);
    const std::int64_t num_source_rows = plan_.sizes().recv_capacity;
    const std::int32_t* tokens = seen_source_token_.data() + place * num_source_rows;
    for (std::int64_t row = 0; row < num_source_rows; ++row) {
      const bool is_real = row < std::ssize(expected.rows);
      ASSERT_EQ(tokens[row], is_real ? expected.rows[row].token : -1) << "row " << row;
    }
    const auto num_places = static_cast<std::int64_t>(inputs_.is_compact() ? expected.rows.size() : expected.copied_row.size());
    const float* values = seen_arrived_.data() + place * num_rows_ * kHidden;
    for (std::int64_t row = 0; row < num_places; ++row) {
      const std::int64_t origin = inputs_.is_compact() ? row : expected.copied_row[row];
      for (std::int64_t column = 0; column < kHidden; ++column) {
        const float wanted =
            origin < 0 ? 0.0F : value_of(expected.rows[origin].source, input, expected.rows[origin].token, column);
        ASSERT_EQ(values[row * kHidden + column], wanted) << "row " << row << ", column " << column;
      }
    }
  }

  void check_output(int input, std::int64_t place) const {
    const float* values = seen_output_.data() + place * num_tokens_ * kHidden;
    for (std::int64_t token = 0; token < num_tokens_; ++token) {
      const auto num_terms = static_cast<float>(inputs_.num_terms(input, rank_, token));
      for (std::int64_t column = 0; column < kHidden; ++column) {
        ASSERT_EQ(values[token * kHidden + column], num_terms * value_of(rank_, input, token, column))
            << "token " << token << ", column " << column;
      }
    }
  }

  Layer layer_;
  const Inputs& inputs_;
  int rank_;
  std::int64_t num_tokens_;
  GpuRank* gpu_;
  cudaStream_t stream_;
  Plan plan_;
  std::int64_t num_rows_;  // of the tensors that dispatch delivers
  Piece<float> prepared_rows_;
  Piece<std::int32_t> prepared_ids_;
  Piece<float> rows_;
  Piece<std::int32_t> ids_;
  Piece<float> delivered_;  // where into_given_tensors
  Piece<float> arrived_;
  Piece<float> output_;
  Piece<float> seen_arrived_, seen_output_;  // of kNumUnderWay results, on the host
  Piece<std::int32_t> seen_source_token_;
  Piece<std::int64_t> seen_source_offsets_;
  Routing routing_of_graph_;       // whose views every replay writes anew
  std::vector<Routing> routings_;  // of calls that may be under way
  std::vector<int> kept_inputs_;
  cudaGraphExec_t graph_ = nullptr;
};

// Runs body(rank's group, its GPU, a place to meet) with ranks as threads.
template <class Body>
void run_ranks_on_gpus(Body body) {
  const auto& gpus = gpu_ranks(kNumRanks);
  MeetingPoint meeting_point(kNumRanks);
  run_thread_ranks(kNumRanks, [&](std::shared_ptr<Exchange> exchange) {
    GpuRank& gpu = *gpus[exchange->rank()];
    gpu.select();
    GroupOptions options = patient();
    options.device = gpu.device();
    options.num_sms = kNumSms;
    const Group group = Group::create(std::move(exchange), options);
    body(group, &gpu, &meeting_point);
    EXPECT_FALSE(group.status().has_value());
  });
}

// The same on all ranks, and in another order than that of the inputs.
int input_of(int replay) { return static_cast<int>(seed_of(17, replay) % kNumInputs); }

class CudaGraphs : public testing::TestWithParam<Layer> {
 protected:
  void SetUp() override { SKIP_WITHOUT_GPUS(1); }
};

TEST_P(CudaGraphs, replays_deliver_what_their_inputs_say) {
  const Inputs inputs(GetParam());
  run_ranks_on_gpus([&](const Group& group, GpuRank* gpu, MeetingPoint* meeting_point) {
    GraphRank rank(group, GetParam(), inputs, gpu, gpu->stream());
    rank.capture(0);
    meeting_point->meet();
    RandomBits random(seed_of(23, group.rank()));
    for (int replay = 0; replay < kNumReplays && !HasFailure(); ++replay) {
      if (random.one_in(8)) enqueue_delay(gpu->stream(), std::chrono::microseconds(random.any_magnitude(1, 200)));
      rank.replay(input_of(replay));
      if (rank.is_full()) rank.check("replay " + std::to_string(replay));
    }
    rank.check("at the end");
  });
}

// In the slot of the graph, in the other one, and in whichever is next.
TEST_P(CudaGraphs, replays_take_turns_with_calls_that_are_not_captured) {
  const Inputs inputs(GetParam());
  run_ranks_on_gpus([&](const Group& group, GpuRank* gpu, MeetingPoint* meeting_point) {
    GraphRank rank(group, GetParam(), inputs, gpu, gpu->stream());
    rank.call(1, -1);
    rank.capture(0);
    meeting_point->meet();
    for (int step = 0; step < kNumReplays / 2 && !HasFailure(); ++step) {
      RandomBits choice(seed_of(29, step));
      if (choice.one_in(2)) {
        rank.replay(input_of(step));
      } else {
        rank.call(input_of(step), choice.pick({0, 1, -1}));
      }
      if (rank.is_full()) rank.check("step " + std::to_string(step));
    }
    rank.check("at the end");
  });
}

INSTANTIATE_TEST_SUITE_P(
    Of, CudaGraphs,
    testing::Values(
        kCompact, Layer{.name = "compact_in_place", .layout = Layout::kCompact, .outputs = Outputs::kOverRows},
        Layer{.name = "compact_that_drops", .layout = Layout::kCompact, .recv_capacity = 20},
        Layer{.name = "compact_into_given_tensors", .layout = Layout::kCompact, .into_given_tensors = true}, kContiguous,
        Layer{.name = "contiguous_in_borrowed_buffer", .layout = Layout::kExpertContiguous, .outputs = Outputs::kBorrowed},
        Layer{.name = "contiguous_that_drops", .layout = Layout::kExpertContiguous, .recv_capacity = 20}),
    [](const auto& param_info) { return param_info.param.name; });

TEST(cuda_graphs, of_two_plans_interleave_on_two_streams) {
  SKIP_WITHOUT_GPUS(1);
  const Inputs compact(kCompact);
  const Inputs contiguous(kContiguous);
  run_ranks_on_gpus([&](const Group& group, GpuRank* gpu, MeetingPoint* meeting_point) {
    GraphRank first(group, kCompact, compact, gpu, gpu->stream());
    GraphRank second(group, kContiguous, contiguous, gpu, gpu->other_stream());
    first.capture(0);
    second.capture(1);
    meeting_point->meet();
    RandomBits random(seed_of(31, group.rank()));
    for (int replay = 0; replay < kNumReplays && !HasFailure(); ++replay) {
      // Ranks need not start the plans' replays in the same order.
      const bool first_goes_first = random.one_in(2);
      if (random.one_in(8)) enqueue_delay(gpu->stream(), std::chrono::microseconds(random.any_magnitude(1, 200)));
      if (first_goes_first) first.replay(input_of(replay));
      second.replay(input_of(replay + 1));
      if (!first_goes_first) first.replay(input_of(replay));
      if (!first.is_full()) continue;
      first.check("replay " + std::to_string(replay));
      second.check("replay " + std::to_string(replay));
    }
    first.check("at the end");
    second.check("at the end");
  });
}

}  // namespace
}  // namespace tokenyard::test
