#include "engine/cuda/copy_streams.hpp"

#include <cuda_runtime_api.h>

#include "base/cuda_error.hpp"
#include "memory/cuda_driver.hpp"
#include "memory/side_stream.hpp"

namespace tokenyard {
namespace {

void write_word_in(Stream stream, std::uint64_t* word, std::uint64_t number) {
  check_driver(
      cuda_driver().stream_write_value64(stream, reinterpret_cast<CUdeviceptr>(word), number, CU_STREAM_WRITE_VALUE_DEFAULT),
      "cuStreamWriteValue64");
}

}  // namespace

void CopyStreams::Destroy::operator()(Stream stream) const noexcept { cudaStreamDestroy(stream); }
void CopyStreams::Destroy::operator()(Event event) const noexcept { cudaEventDestroy(event); }

CopyStreams::CopyStreams(bool writes_words) : copies_(make_urgent_stream()) {
  if (writes_words) words_.reset(make_urgent_stream());
  Event event = nullptr;
  check_cuda(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
  event_.reset(event);
}

void CopyStreams::hand_over(Stream from, Stream to) {
  check_cuda(cudaEventRecord(event_.get(), from), "cudaEventRecord");
  check_cuda(cudaStreamWaitEvent(to, event_.get(), 0), "cudaStreamWaitEvent");
}

void CopyStreams::follow(Stream stream) { hand_over(stream, copies_.get()); }

void CopyStreams::await_word(const std::uint64_t* word, std::uint64_t number) {
  check_driver(
      cuda_driver().stream_wait_value64(copies_.get(), reinterpret_cast<CUdeviceptr>(word), number, CU_STREAM_WAIT_VALUE_GEQ),
      "cuStreamWaitValue64");
}

void CopyStreams::copy(std::byte* to, const std::byte* from, std::size_t num_bytes) {
  if (num_bytes == 0) return;
  check_cuda(cudaMemcpyAsync(to, from, num_bytes, cudaMemcpyDeviceToDevice, copies_.get()), "cudaMemcpyAsync");
}

void CopyStreams::mark() { hand_over(copies_.get(), words_.get()); }

void CopyStreams::write_word(std::uint64_t* word, std::uint64_t number) { write_word_in(words_.get(), word, number); }

void CopyStreams::end(std::uint64_t* word, std::uint64_t number) { write_word_in(copies_.get(), word, number); }

void CopyStreams::join() noexcept {
  if (words_ == nullptr) return;
  cudaEventRecord(event_.get(), words_.get());  // if that fails, the device has failed
  cudaStreamWaitEvent(copies_.get(), event_.get(), 0);
}

}  // namespace tokenyard
