// A Mixture-of-Experts layer on GPUs, captured in a CUDA graph once and replayed with other tokens: dispatch, a kernel in the
// place of the experts, combine. Ranks are threads of this process; each takes the next GPU that there is. Exit status 0: the
// sums are right, 77: no GPU.
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <tokenyard/tokenyard.hpp>
#include <vector>

namespace ty = tokenyard;

namespace {

constexpr int kNumRanks = 2;
constexpr int kNumExperts = 8;
constexpr int kTopK = 2;
constexpr int kNumTokens = 64;  // of each rank
constexpr int kHidden = 1024;
constexpr int kNumReplays = 10;

void check(cudaError_t result) {
  if (result == cudaSuccess) return;
  std::fprintf(stderr, "%s\n", cudaGetErrorString(result));
  std::exit(1);  // without a rank the others could only wait
}

// Expert e multiplies by e + 1. A block per row; how many rows there are, and whose they are, only the GPU knows.
__global__ void run_experts(float* rows, const std::int64_t* expert_offsets, int num_experts, int first_expert) {
  const std::int64_t row = blockIdx.x;
  if (row >= expert_offsets[num_experts]) return;
  int expert = 0;
  while (row >= expert_offsets[expert + 1]) ++expert;
  float* const values = rows + row * kHidden;
  for (int i = static_cast<int>(threadIdx.x); i < kHidden; i += static_cast<int>(blockDim.x)) {
    values[i] *= static_cast<float>(first_expert + expert + 1);
  }
}

// Memory that the host fills and the GPU reads, or the other way round: pinned, with a copy on the GPU.
template <class T>
class Mirrored {
 public:
  explicit Mirrored(std::size_t num_elements) : num_bytes_(num_elements * sizeof(T)) {
    check(cudaHostAlloc(reinterpret_cast<void**>(&on_host), num_bytes_, cudaHostAllocPortable));
    check(cudaMalloc(reinterpret_cast<void**>(&on_gpu), num_bytes_));
  }
  ~Mirrored() {
    check(cudaFreeHost(on_host));
    check(cudaFree(on_gpu));
  }
  Mirrored(const Mirrored&) = delete;
  Mirrored& operator=(const Mirrored&) = delete;

  void to_gpu(cudaStream_t stream) const {
    check(cudaMemcpyAsync(on_gpu, on_host, num_bytes_, cudaMemcpyHostToDevice, stream));
  }
  void to_host(cudaStream_t stream) const {
    check(cudaMemcpyAsync(on_host, on_gpu, num_bytes_, cudaMemcpyDeviceToHost, stream));
  }

  T* on_host = nullptr;
  T* on_gpu = nullptr;

 private:
  std::size_t num_bytes_;
};

struct Tensors {
  Mirrored<float> tokens{kNumTokens * kHidden};
  Mirrored<std::int32_t> experts{kNumTokens * kTopK};
  Mirrored<float> weights{kNumTokens * kTopK};
  Mirrored<float> sums{kNumTokens * kHidden};
};

// Small whole numbers and halves, whose sums are exact. The two experts of a token differ.
void choose(const Tensors& tensors, int rank, int replay) {
  for (int i = 0; i < kNumTokens * kHidden; ++i) tensors.tokens.on_host[i] = static_cast<float>((i + rank * 7 + replay) % 100);
  for (int token = 0; token < kNumTokens; ++token) {
    const int first = (token + rank + replay * 3) % kNumExperts;
    tensors.experts.on_host[token * kTopK] = first;
    tensors.experts.on_host[token * kTopK + 1] = (first + 1 + token % (kNumExperts - 1)) % kNumExperts;
    tensors.weights.on_host[token * kTopK] = 0.5F;
    tensors.weights.on_host[token * kTopK + 1] = 0.25F;
  }
}

bool is_right(const Tensors& tensors) {
  for (int i = 0; i < kNumTokens * kHidden; ++i) {
    float expected = 0;
    for (int k = 0; k < kTopK; ++k) {
      const int pair = i / kHidden * kTopK + k;
      expected +=
          tensors.weights.on_host[pair] * tensors.tokens.on_host[i] * static_cast<float>(tensors.experts.on_host[pair] + 1);
    }
    if (tensors.sums.on_host[i] != expected) return false;
  }
  return true;
}

// Enqueues the layer. The Routing must live as long as the stream, or a graph of what it did, may use it.
ty::Routing enqueue_layer(const ty::Group& group, const ty::Plan& plan, const Tensors& tensors, cudaStream_t stream) {
  tensors.tokens.to_gpu(stream);
  tensors.experts.to_gpu(stream);
  tensors.weights.to_gpu(stream);
  const ty::ConstTensorView lane(tensors.tokens.on_gpu, ty::DataType::kFloat32, {kNumTokens, kHidden});
  ty::DispatchArgs dispatch;
  dispatch.lanes = {&lane, 1};
  dispatch.topk_idx = {tensors.experts.on_gpu, ty::DataType::kInt32, {kNumTokens, kTopK}};
  dispatch.topk_weights = {tensors.weights.on_gpu, ty::DataType::kFloat32, {kNumTokens, kTopK}};
  dispatch.slot = 0;  // a graph has one slot; the other is free for calls between its replays
  dispatch.execution.stream = stream;
  const ty::Received received = plan.dispatch(dispatch);

  // The rows are in the slot, grouped by this rank's experts. The kernel overwrites them with what they become.
  const ty::TensorView rows = received.lane(0);
  const auto* offsets = static_cast<const std::int64_t*>(received.routing().expert_offsets().data);
  const int num_local_experts = plan.num_local_experts();
  run_experts<<<static_cast<unsigned>(rows.shape[0]), 256, 0, stream>>>(static_cast<float*>(rows.data), offsets,
                                                                        num_local_experts, group.rank() * num_local_experts);
  check(cudaGetLastError());

  const ty::Routing routing = received.routing();
  ty::CombineArgs combine;
  combine.routing = &routing;
  combine.rows = rows;
  combine.use_routing_weights = true;
  combine.output = {tensors.sums.on_gpu, ty::DataType::kFloat32, {kNumTokens, kHidden}};
  combine.slot = 0;
  combine.execution.stream = stream;
  plan.combine(combine);
  tensors.sums.to_host(stream);
  return routing;
}

bool run(std::shared_ptr<ty::Exchange> exchange, int device) {
  check(cudaSetDevice(device));
  ty::GroupOptions options;
  options.device = device;
  options.num_sms = 8;  // the kernels of all ranks of a GPU fit on it together
  const ty::Group group = ty::Group::create(std::move(exchange), options);
  const Tensors tensors;
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));

  // Capacity output: shapes never change, so the host need not know how many rows come.
  ty::Shape shape;
  shape.num_experts = kNumExperts;
  shape.top_k = kTopK;
  shape.max_tokens = kNumTokens;
  shape.lanes = {{ty::DataType::kFloat32, kHidden}};
  shape.layout = ty::Layout::kExpertContiguous;
  shape.overflow = ty::Overflow::kDrop;
  const ty::Plan plan = group.plan(shape);
  group.barrier();  // all have taken their memory: from here on kernels wait for each other

  // Once as it is, then for the graph, in which nothing may take memory for the first time.
  choose(tensors, group.rank(), 0);
  {
    const ty::Routing routing = enqueue_layer(group, plan, tensors, stream);
    check(cudaStreamSynchronize(stream));
  }
  bool all_right = is_right(tensors);
  cudaGraph_t captured = nullptr;
  cudaGraphExec_t graph = nullptr;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  const ty::Routing routing = enqueue_layer(group, plan, tensors, stream);
  check(cudaStreamEndCapture(stream, &captured));
  check(cudaGraphInstantiate(&graph, captured, 0));
  check(cudaGraphDestroy(captured));
  check(cudaGraphUpload(graph, stream));
  check(cudaStreamSynchronize(stream));
  group.barrier();  // that took memory, too

  for (int replay = 1; replay <= kNumReplays; ++replay) {
    choose(tensors, group.rank(), replay);
    check(cudaGraphLaunch(graph, stream));
    check(cudaStreamSynchronize(stream));
    all_right = all_right && is_right(tensors);
  }
  all_right = all_right && !group.status().has_value();  // after a failure kernels do nothing, and streams go on
  std::printf("rank %d on GPU %d: received %lld rows last; the sums of %d replays are %s\n", group.rank(), device,
              static_cast<long long>(routing.num_recv_rows()), kNumReplays, all_right ? "right" : "wrong");
  group.barrier();  // nobody frees memory while others may wait
  check(cudaGraphExecDestroy(graph));
  check(cudaStreamDestroy(stream));
  return all_right;
}

}  // namespace

int main() {
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);       // no kernel is loaded behind one that waits
  setenv("CUDA_DEVICE_MAX_CONNECTIONS", "32", 0);  // the ranks' streams do not queue behind each other
  int num_gpus = 0;
  if (cudaGetDeviceCount(&num_gpus) != cudaSuccess || num_gpus == 0) {
    std::printf("no GPU is visible here\n");
    return 77;
  }
  auto exchanges = ty::make_thread_exchange(kNumRanks);
  std::vector<int> is_right(kNumRanks);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    ranks.emplace_back([&, rank] { is_right[rank] = run(std::move(exchanges[rank]), rank % num_gpus); });
  }
  for (std::thread& rank : ranks) rank.join();
  for (const int right : is_right) {
    if (right == 0) return 1;
  }
  return 0;
}
