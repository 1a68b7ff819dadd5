// Ranks on GPUs through the C interface: memory of the GPU, streams and events as void pointers.
#include <cuda_runtime_api.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "tests/capi/c_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 2;
constexpr int kNumSms = 8;

// Read when CUDA starts. Ranks share a GPU where there is but one: their streams must not wait for each other, nor may a kernel
// be loaded behind one that waits.
const bool kIsPrepared = setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0) == 0 && setenv("CUDA_MODULE_LOADING", "EAGER", 0) == 0;

int count_gpus() {
  int num_gpus = 0;
  return cudaGetDeviceCount(&num_gpus) == cudaSuccess ? num_gpus : 0;
}

void expect_cuda(cudaError_t result, std::source_location where = std::source_location::current()) {
  EXPECT_EQ(result, cudaSuccess) << cudaGetErrorString(result) << " (line " << where.line() << ")";
}

// What a rank needs of CUDA, made before any rank makes a call: taking memory waits for kernels.
class Gpu {
 public:
  explicit Gpu(int rank) : device_{sizeof(ty_device), rank % count_gpus(), kNumSms, 0} {
    select();
    expect_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    expect_cuda(cudaEventCreateWithFlags(&is_recorded, cudaEventDisableTiming));
    expect_cuda(cudaMalloc(&memory_, kBytes));
  }
  ~Gpu() {
    select();
    cudaStreamDestroy(stream);
    cudaEventDestroy(is_recorded);
    cudaFree(memory_);
  }
  Gpu(const Gpu&) = delete;
  Gpu& operator=(const Gpu&) = delete;

  const ty_device* device() const { return &device_; }
  void select() const { expect_cuda(cudaSetDevice(device_.number)); }

  // A tensor of the host's on the GPU, with what it holds, ordered before all that the stream does later.
  ty_tensor copy_of(const ty_tensor& tensor) {
    const std::size_t num_bytes = static_cast<std::size_t>(tensor.shape[0] * tensor.shape[1]) * ty_data_type_size(tensor.dtype);
    ty_tensor copy = tensor;
    copy.data = static_cast<std::byte*>(memory_) + num_used_;
    num_used_ += (num_bytes + 255) / 256 * 256;
    EXPECT_LE(num_used_, kBytes);
    expect_cuda(cudaMemcpyAsync(copy.data, tensor.data, num_bytes, cudaMemcpyDefault, stream));
    return copy;
  }

  // When the stream's work is over: from memory that is not pinned, a copy behind a kernel would block the driver.
  void fetch(void* to, const void* from, std::size_t num_bytes) const {
    expect_cuda(cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyDefault, stream));
    expect_cuda(cudaStreamSynchronize(stream));
  }

  cudaStream_t stream = nullptr;
  cudaEvent_t is_recorded = nullptr;

 private:
  static constexpr std::size_t kBytes = std::size_t{1} << 20;

  ty_device device_;
  void* memory_ = nullptr;
  std::size_t num_used_ = 0;
};

void run_on_gpus(const std::function<void(int rank, ty_group* group, Gpu* gpu)>& body) {
  std::vector<std::unique_ptr<Gpu>> gpus;
  for (int rank = 0; rank < kNumRanks; ++rank) gpus.push_back(std::make_unique<Gpu>(rank));
  const auto run_rank = [&](int rank, ty_group* group) {
    Gpu& gpu = *gpus[static_cast<std::size_t>(rank)];
    gpu.select();
    body(rank, group, &gpu);
  };
  run_c_ranks(kNumRanks, run_rank, 20'000,
              [&](int rank, ty_group_options* options) { options->device = gpus[static_cast<std::size_t>(rank)]->device(); });
}

// Rows that `rank` receives, and rows that each of its tokens becomes.
bool visits(const SmallLayer& layer, int token, int rank) {
  const auto* ids = layer.ids.data() + token * kTopK;
  return std::any_of(ids, ids + kTopK, [&](std::int64_t id) { return id / (kNumExperts / kNumRanks) == rank; });
}

class Gpus : public testing::TestWithParam<ty_overflow> {};

TEST_P(Gpus, carry_a_layer_in_a_stream) {
  if (count_gpus() == 0) GTEST_SKIP() << "needs a GPU, and none is visible here";
  run_on_gpus([](int rank, ty_group* group, Gpu* gpu) {
    EXPECT_EQ(ty_group_device(group), gpu->device()->number);
    const ty_lane lane = float_lane();
    ty_shape shape = small_shape(&lane);
    shape.overflow = GetParam();
    const auto plan = make<CPlan>(ty_plan_create, group, &shape);
    SmallLayer layer(rank);
    const ty_tensor tokens = gpu->copy_of(layer.tokens);
    const ty_tensor topk_idx = gpu->copy_of(layer.topk_idx);
    const ty_tensor topk_weights = gpu->copy_of(layer.topk_weights);
    const ty_tensor output = gpu->copy_of(layer.output);

    ty_execution execution = TY_EXECUTION_INIT;
    execution.stream = gpu->stream;
    execution.num_sms = kNumSms / 2;
    execution.copies = TY_COPIES_PLAIN;
    ty_dispatch_args dispatch = layer.dispatch();
    dispatch.lanes = &tokens;
    dispatch.topk_idx = &topk_idx;
    dispatch.topk_weights = &topk_weights;
    dispatch.execution = &execution;
    const auto received = make<CReceived>(ty_plan_dispatch, plan.get(), &dispatch);
    const auto routing = make<CRouting>(ty_received_get_routing, received.get());
    ty_recv_sizes sizes = TY_RECV_SIZES_INIT;
    expect_ok(ty_received_get_sizes(received.get(), &sizes));
    ty_tensor rows = TY_TENSOR_INIT;
    expect_ok(ty_received_get_lane(received.get(), 0, &rows));

    // Experts that change nothing. The event is recorded behind the call.
    ty_combine_args combine = layer.combine(routing.get(), &rows);
    combine.output = &output;
    execution.record = gpu->is_recorded;
    combine.execution = &execution;
    expect_ok(ty_plan_combine(plan.get(), &combine));
    expect_cuda(cudaEventSynchronize(gpu->is_recorded));
    gpu->fetch(layer.sums.data(), output.data, layer.sums.size() * sizeof(float));

    std::int64_t num_rows = 0;
    for (int source = 0; source < kNumRanks; ++source) {
      const SmallLayer sent(source);
      for (int token = 0; token < sent.num_tokens; ++token) num_rows += visits(sent, token, rank) ? 1 : 0;
    }
    EXPECT_EQ(ty_routing_num_recv_rows(routing.get()), num_rows) << ty_last_error();
    EXPECT_EQ(sizes.num_recv_rows, GetParam() == TY_OVERFLOW_GROW ? num_rows : -1);
    for (int token = 0; token < layer.num_tokens; ++token) {
      const auto num_terms = static_cast<float>((visits(layer, token, 0) ? 1 : 0) + (visits(layer, token, 1) ? 1 : 0));
      for (int column = 0; column < kHidden; ++column) {
        const auto i = static_cast<std::size_t>(token * kHidden + column);
        EXPECT_EQ(layer.sums[i], num_terms * layer.values[i]) << "token " << token << ", column " << column;
      }
    }
    ty_failure failure = TY_FAILURE_INIT;
    expect_ok(ty_group_get_failure(group, &failure));
    EXPECT_EQ(failure.code, TY_OK);
    expect_ok(ty_group_barrier(group));
  });
}

INSTANTIATE_TEST_SUITE_P(Of, Gpus, testing::Values(TY_OVERFLOW_GROW, TY_OVERFLOW_DROP),
                         [](const auto& overflow) { return overflow.param == TY_OVERFLOW_GROW ? "sized" : "capacity"; });

TEST(gpus, put_signal_and_wait_in_a_stream) {
  if (count_gpus() == 0) GTEST_SKIP() << "needs a GPU, and none is visible here";
  run_on_gpus([](int rank, ty_group* group, Gpu* gpu) {
    constexpr std::size_t kBytes = 4096;
    constexpr std::size_t kFlag = 1024;
    const auto window = make<CWindow>(ty_window_create, group, kBytes);
    const ty_window* w = window.get();
    const int peer = 1 - rank;
    std::array<int, 4> sent{rank, 10, 20, 30};
    const ty_tensor values = gpu->copy_of(ty_tensor_of_rows(sent.data(), TY_INT32, 1, 4));
    expect_ok(ty_window_put_in_stream(w, peer, 64, values.data, sizeof(sent), gpu->stream));
    expect_ok(ty_window_signal_in_stream(w, peer, kFlag, 7, gpu->stream));
    expect_ok(ty_window_wait_in_stream(w, kFlag, TY_COMPARE_EQUAL, 7, TY_GROUP_TIMEOUT, gpu->stream));
    expect_cuda(cudaStreamSynchronize(gpu->stream));
    std::array<int, 4> came{};
    expect_ok(ty_window_get(w, rank, 64, came.data(), sizeof(came)));
    EXPECT_EQ(came, (std::array<int, 4>{peer, 10, 20, 30}));

    ty_device_window device_window = TY_DEVICE_WINDOW_INIT;
    expect_ok(ty_window_get_device_window(w, &device_window));
    EXPECT_EQ(device_window.rank, rank);
    EXPECT_EQ(device_window.num_ranks, kNumRanks);
    EXPECT_EQ(device_window.num_bytes, kBytes);
    EXPECT_EQ(device_window.timeout_nanoseconds, 20'000'000'000U);
    void* own_region = nullptr;
    gpu->fetch(&own_region, device_window.regions + rank, sizeof(own_region));
    EXPECT_EQ(own_region, ty_window_local(w));
    expect_ok(ty_group_barrier(group));
  });
}

}  // namespace
}  // namespace tokenyard::test
