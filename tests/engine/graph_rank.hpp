// One rank with a layer of capacity output that is captured in a CUDA graph and replayed with other rows and other top-k ids.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tests/engine/graph_layer.hpp"
#include "tests/support/gpu_rank.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::test::graphs {

inline constexpr int kNumUnderWay = 25;  // replays between two looks at their results

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
  GraphRank(const Group& group, const Layer& layer, const Inputs& inputs, GpuRank* gpu, cudaStream_t stream);
  ~GraphRank();
  GraphRank(const GraphRank&) = delete;
  GraphRank& operator=(const GraphRank&) = delete;

  // Collective. The slot's first call takes memory, which a captured one must not.
  void capture(int slot);

  void replay(int input);
  // The same as an ordinary call.
  void call(int input, int slot);

  bool is_full() const { return kept_inputs_.size() == kNumUnderWay; }

  // Waits for what has been enqueued, and compares it. `when` says which replay was the last.
  void check(const std::string& when);

 private:
  static std::int64_t tensor_rows(const Layer& layer, const Plan& plan);
  void copy(void* to, const void* from, std::size_t num_bytes) const;
  void set_input(int input);
  // Dispatch, experts that change nothing, combine.
  Routing enqueue_layer(int slot);
  ConstTensorView outputs_of_experts(const Received& received);
  TensorView mutable_tensor(float* data) const { return {data, DataType::kFloat32, {num_rows_, kHidden}}; }

  void keep_results(int input, const Routing& routing);
  void check_arrived(int input, std::int64_t place) const;
  void check_output(int input, std::int64_t place) const;

  Layer layer_;
  const Inputs& inputs_;
  int rank_;
  int num_ranks_;
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

}  // namespace tokenyard::test::graphs
