// The runtime's functions for streams and events.

#include <cuda_runtime_api.h>

#include <chrono>
#include <memory>

#include "tests/software_gpu/context.hpp"
#include "tests/software_gpu/graph.hpp"
#include "tests/software_gpu/stream.hpp"

using namespace software_gpu;

namespace {

struct Event {
  std::shared_ptr<Mark> mark;    // null: never recorded
  std::shared_ptr<Graph> graph;  // of the capture in which it was recorded last
  std::size_t mark_in_graph = 0;
  int device = current_device();
};

Event* event_of(cudaEvent_t event) { return reinterpret_cast<Event*>(event); }

}  // namespace

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  *stream = reinterpret_cast<cudaStream_t>(make_stream((flags & cudaStreamNonBlocking) == 0));
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  return cudaStreamCreateWithPriority(stream, flags, 0);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  destroy_stream(reinterpret_cast<Stream*>(stream));
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return outside_of_captures([&] {
    stream_of(stream)->finish();
    return cudaSuccess;
  });
}
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  return outside_of_captures([&] { return stream_of(stream)->is_idle() ? cudaSuccess : cudaErrorNotReady; });
}
cudaError_t cudaStreamGetId(cudaStream_t stream, unsigned long long* id) {
  *id = stream_of(stream)->id();
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  return outside_of_captures([] {
    finish_device(current_device());
    return cudaSuccess;
  });
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = reinterpret_cast<cudaEvent_t>(new Event);
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  if (event == nullptr) return returned(cudaErrorInvalidResourceHandle);
  delete event_of(event);
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream_handle) {
  Event& event = *event_of(handle);
  Stream* stream = stream_of(stream_handle);
  if (event.device != stream->device()) return returned(cudaErrorInvalidResourceHandle);
  if (Graph* graph = stream->graph) {
    event.graph = graph->shared_from_this();
    event.mark_in_graph = graph->num_marks++;
    graph->nodes.push_back({Node::Kind::kRecord, stream->lane, {}, event.mark_in_graph});
    return cudaSuccess;
  }
  auto mark = std::make_shared<Mark>();
  event.graph = nullptr;
  event.mark = mark;
  enqueue_uncaptured(stream, [mark] { mark->set(); });
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream_handle, cudaEvent_t handle, unsigned) {
  const Event& event = *event_of(handle);
  Stream* stream = stream_of(stream_handle);
  if (Graph* graph = event.graph.get()) {
    if (graph->is_over) return returned(cudaErrorCapturedEvent);
    if (stream->graph == nullptr) {
      stream->graph = graph;
      stream->lane = graph->num_lanes++;
      graph->captured.push_back(stream);
    }
    graph->nodes.push_back({Node::Kind::kWait, stream->lane, {}, event.mark_in_graph});
    return cudaSuccess;
  }
  if (stream->graph != nullptr) {
    stream->graph->is_spoilt = true;
    return returned(cudaErrorStreamCaptureIsolation);
  }
  if (event.mark != nullptr) enqueue_uncaptured(stream, [mark = event.mark] { mark->wait(); });
  return cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t handle) {
  return outside_of_captures([&] {
    const Event& event = *event_of(handle);
    if (event.graph != nullptr) return returned(cudaErrorCapturedEvent);
    return event.mark == nullptr || event.mark->is_set() ? cudaSuccess : cudaErrorNotReady;
  });
}
cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  return outside_of_captures([&] {
    if (event_of(handle)->mark != nullptr) event_of(handle)->mark->wait();
    return cudaSuccess;
  });
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (event_of(begin)->mark == nullptr || event_of(end)->mark == nullptr) return returned(cudaErrorInvalidResourceHandle);
  const auto time = event_of(end)->mark->time() - event_of(begin)->mark->time();
  *milliseconds = std::chrono::duration<float, std::milli>(time).count();
  return cudaSuccess;
}
