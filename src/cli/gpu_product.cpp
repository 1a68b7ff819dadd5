#include "cli/gpu_product.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/cuda_error.hpp"
#include "cli/product_size.hpp"
#include "cli/random_bits.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;
constexpr std::size_t kElementBytes = 2;
constexpr std::int64_t kFirstRows = 1024;

std::size_t bytes_of_rows(std::int64_t num_rows) {
  return static_cast<std::size_t>(num_rows) * static_cast<std::size_t>(kProductWidth) * kElementBytes;
}

// Numbers of ordinary size: how much power a product takes, and so how fast it is, depends on them.
void fill(const GpuMemory& memory, std::uint64_t seed, Stream stream) {
  constexpr std::size_t kNumElements = std::size_t{1} << 20;
  std::vector<std::uint16_t> elements(kNumElements);
  for (std::size_t i = 0; i < kNumElements; ++i) {
    const std::uint64_t bits = hash_bits(seed, i);
    constexpr std::uint16_t kHalf = 0x3f00;  // bfloat16 0.5: up to 1 with any mantissa
    elements[i] = static_cast<std::uint16_t>(kHalf | (bits & 0x807f));
  }
  const std::size_t piece_bytes = kNumElements * kElementBytes;
  copy_to_gpu(memory.data(), elements.data(), std::min(piece_bytes, memory.num_bytes()), stream);
  for (std::size_t done = piece_bytes; done < memory.num_bytes(); done += piece_bytes) {
    check_cuda(cudaMemcpyAsync(memory.data() + done, memory.data(), std::min(piece_bytes, memory.num_bytes() - done),
                               cudaMemcpyDeviceToDevice, stream),
               "cudaMemcpyAsync");
  }
  check_cuda(cudaStreamSynchronize(stream), "cudaStreamSynchronize");
}

}  // namespace

GpuProduct::GpuProduct(Stream stream)
    : cublas_(cublas_library()),
      stream_(stream),
      workspace_(kWorkspaceBytes),
      left_(bytes_of_rows(kMostProductRows)),
      right_(bytes_of_rows(kProductWidth)),
      result_(bytes_of_rows(kMostProductRows)) {
  cublas_.check(cublas_.create(&context_), "cublasCreate");
  cublas_.check(cublas_.set_stream(context_, stream), "cublasSetStream");
  cublas_.check(cublas_.set_workspace(context_, workspace_.data(), workspace_.num_bytes()), "cublasSetWorkspace");
  fill(left_, 1, stream);
  fill(right_, 2, stream);
}

GpuProduct::~GpuProduct() {
  cudaStreamSynchronize(stream_);
  cublas_.destroy(context_);
}

void GpuProduct::use_sms(int num_sms) const {
  cublas_.check(cublas_.set_sm_count_target(context_, num_sms), "cublasSetSmCountTarget");
}

int GpuProduct::cublas_version() const {
  int version = 0;
  cublas_.check(cublas_.get_version(context_, &version), "cublasGetVersion");
  return version;
}

std::int64_t GpuProduct::choose_num_rows() {
  num_rows_ = kFirstRows;
  for (;;) {
    const std::int64_t next = next_product_rows(num_rows_, measure());
    if (next == num_rows_) return num_rows_;
    num_rows_ = next;
  }
}

double GpuProduct::measure() {
  constexpr int kNumWarmups = 3;
  constexpr int kNumProducts = 10;
  Event begin = nullptr;
  Event end = nullptr;
  for (Event* event : {&begin, &end}) check_cuda(cudaEventCreate(event), "cudaEventCreate");
  for (int i = 0; i < kNumWarmups; ++i) enqueue();
  check_cuda(cudaEventRecord(begin, stream_), "cudaEventRecord");
  for (int i = 0; i < kNumProducts; ++i) enqueue();
  check_cuda(cudaEventRecord(end, stream_), "cudaEventRecord");
  check_cuda(cudaStreamSynchronize(stream_), "cudaStreamSynchronize");
  float milliseconds = 0;
  check_cuda(cudaEventElapsedTime(&milliseconds, begin, end), "cudaEventElapsedTime");
  for (Event event : {begin, end}) cudaEventDestroy(event);
  return milliseconds * 1e3 / kNumProducts;
}

// cuBLAS knows columns alone, so rows are its columns, and the order of factors is reversed.
void GpuProduct::enqueue() {
  constexpr float kOne = 1;
  constexpr float kZero = 0;
  constexpr int kWidth = static_cast<int>(kProductWidth);
  cublas_.check(cublas_.multiply(context_, kCublasTranspose, kCublasNoTranspose, kWidth, static_cast<int>(num_rows_), kWidth,
                                 &kOne, right_.data(), kCublasBFloat16, kWidth, left_.data(), kCublasBFloat16, kWidth, &kZero,
                                 result_.data(), kCublasBFloat16, kWidth, kCublasComputeFloat32, kCublasChosenAlgorithm),
                "cublasGemmEx");
}

}  // namespace tokenyard::cli
