#include "cli/gpu_bench_tensors.hpp"

#include <algorithm>

#include "base/cuda_error.hpp"

namespace tokenyard::cli {
namespace {

constexpr int kPoison = 0xee;  // neither a payload nor a sum of payloads looks like this

std::size_t bytes_of(const ConstTensorView& tensor) {
  return static_cast<std::size_t>(tensor.num_elements()) * size_of(tensor.dtype);
}

template <class T>
const T* as(const std::vector<std::byte>& bytes) {
  return reinterpret_cast<const T*>(bytes.data());
}

}  // namespace

GpuBenchTensors::GpuBenchTensors(const BenchSetup& setup, int rank, std::int64_t max_rows, bool has_outputs, Stream stream)
    : setup_(setup), rank_(rank) {
  const ExpectedRank& expected = setup.expected[static_cast<std::size_t>(rank)];
  const bool padded = setup.shape.layout == Layout::kExpertPadded;
  const auto rows_tensor = [&](std::byte* rows, const Lane& lane) {
    return padded ? TensorView(rows, lane.dtype, {expected.num_local_experts, setup.shape.expert_capacity, lane.num_elements})
                  : TensorView(rows, lane.dtype, {max_rows, lane.num_elements});
  };
  const auto num_rows = static_cast<std::size_t>(padded ? expected.num_local_experts * setup.shape.expert_capacity : max_rows);
  for (std::size_t lane_idx = 0; lane_idx < setup.given_lanes.size(); ++lane_idx) {
    const Lane& lane = setup.given_lanes[lane_idx];
    std::vector<std::byte> rows(static_cast<std::size_t>(setup.num_tokens) * lane.row_bytes());
    for (std::int64_t token = 0; token < setup.num_tokens; ++token) {
      write_token_row(setup, rank, token, lane_idx, rows.data() + static_cast<std::size_t>(token) * lane.row_bytes());
    }
    lanes_.emplace_back(keep(rows.data(), rows.size(), stream).data(), lane.dtype,
                        std::initializer_list<std::int64_t>{setup.num_tokens, lane.num_elements});
  }
  const auto num_ids = static_cast<std::size_t>(setup.num_tokens * setup.options.top_k);
  topk_idx_ = {keep(setup.routing.ids(rank), num_ids * sizeof(std::int64_t), stream).data(),
               DataType::kInt64,
               {setup.num_tokens, setup.options.top_k}};
  topk_weights_ = {keep(setup.routing.weights(rank), num_ids * sizeof(float), stream).data(),
                   DataType::kFloat32,
                   {setup.num_tokens, setup.options.top_k}};
  for (const Lane& lane : setup.shape.lanes) {
    if (!has_outputs) break;
    outputs_.push_back(rows_tensor(memory_.emplace_back(num_rows * lane.row_bytes()).data(), lane));
  }
  if (!setup.can_combine()) return;
  const Lane& lane = *setup.shape.combine;
  // Combine takes as many rows as its Routing says, which for capacity output is the capacity.
  expert_rows_ = GpuMemory(num_rows * lane.row_bytes());
  std::vector<std::byte> rows(static_cast<std::size_t>(expected.num_expanded_rows) * lane.row_bytes());
  write_expert_rows(setup, rank, rows.data());
  expert_bytes_ = rows.size();
  copy_to_gpu(expert_rows_.data(), rows.data(), rows.size(), stream);
  combined_ = {memory_.emplace_back(static_cast<std::size_t>(setup.num_tokens) * lane.row_bytes()).data(),
               lane.dtype,
               {setup.num_tokens, lane.num_elements}};
}

ConstTensorView GpuBenchTensors::expert_rows(const Received& received) const {
  ConstTensorView rows = received.lane(0);
  rows.data = expert_rows_.data();
  rows.dtype = setup_.shape.combine->dtype;
  rows.shape[rows.num_dims - 1] = setup_.shape.combine->num_elements;
  std::int64_t stride = 1;
  for (int dim = rows.num_dims - 1; dim >= 0; --dim) {
    rows.strides[dim] = stride;
    stride *= rows.shape[dim];
  }
  return rows;
}

void GpuBenchTensors::write_expert_rows_to(const TensorView& rows, Stream stream) const {
  if (expert_bytes_ == 0) return;
  check_cuda(cudaMemcpyAsync(rows.data, expert_rows_.data(), expert_bytes_, cudaMemcpyDeviceToDevice, stream),
             "cudaMemcpyAsync");
}

void GpuBenchTensors::poison(std::span<const TensorView> tensors, Stream stream) const {
  for (const TensorView& tensor : tensors) {
    if (tensor.num_elements() == 0) continue;
    check_cuda(cudaMemsetAsync(tensor.data, kPoison, bytes_of(tensor), stream), "cudaMemsetAsync");
  }
}

std::int64_t GpuBenchTensors::count_wrong(const Received& received, Stream stream) const {
  const auto num_lanes = static_cast<int>(setup_.shape.lanes.size());
  std::vector<std::vector<std::byte>> copies;
  const auto fetch = [&](const ConstTensorView& tensor) {
    copies.push_back(copy_from_gpu(tensor.data, bytes_of(tensor), stream));
    return copies.size() - 1;
  };
  const Routing& routing = received.routing();
  for (int lane_idx = 0; lane_idx < num_lanes; ++lane_idx) fetch(received.lane(lane_idx));
  const std::size_t topk_idx = fetch(routing.topk_idx());
  const std::size_t topk_weights = fetch(routing.topk_weights());
  const std::size_t source_token = fetch(routing.source_token());
  const std::size_t source_offsets = fetch(routing.source_offsets());
  Delivered delivered{.num_recv_rows = routing.num_recv_rows(),
                      .num_expanded_rows = routing.num_expanded_rows(),
                      .lanes = {},
                      .topk_idx = as<std::int32_t>(copies[topk_idx]),
                      .topk_weights = as<float>(copies[topk_weights]),
                      .source_token = as<std::int32_t>(copies[source_token]),
                      .source_offsets = as<std::int64_t>(copies[source_offsets])};
  for (int lane_idx = 0; lane_idx < num_lanes; ++lane_idx) {
    delivered.lanes.push_back(copies[static_cast<std::size_t>(lane_idx)].data());
  }
  return count_wrong_received(setup_, rank_, delivered);
}

std::int64_t GpuBenchTensors::count_wrong_combined(Returned returned, Stream stream) const {
  const std::vector<std::byte> rows = copy_from_gpu(combined_.data, bytes_of(combined_), stream);
  return cli::count_wrong_combined(setup_, rank_, rows.data(), returned);
}

GpuMemory GpuBenchTensors::keep(const void* bytes, std::size_t num_bytes, Stream stream) {
  GpuMemory memory(num_bytes);
  copy_to_gpu(memory.data(), bytes, num_bytes, stream);
  return memory_.emplace_back(memory);
}

}  // namespace tokenyard::cli
