// The runtime's functions for graphs.

#include <cuda_runtime_api.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "tests/software_gpu/context.hpp"
#include "tests/software_gpu/graph.hpp"
#include "tests/software_gpu/stream.hpp"

using namespace software_gpu;

namespace {

struct GraphLaunches {
  std::vector<Node> nodes;
  std::size_t num_marks;
  std::vector<Stream*> lanes;  // from 1 on
};

// Whether lane 0 has waited for all that the others do.
bool is_joined(const Graph& graph) {
  // How many nodes of each lane come before what a lane does next, and before a mark.
  using Clock = std::vector<std::size_t>;
  std::vector<Clock> clocks(static_cast<std::size_t>(graph.num_lanes), Clock(static_cast<std::size_t>(graph.num_lanes)));
  std::vector<Clock> marks(graph.num_marks);
  for (const Node& node : graph.nodes) {
    const auto lane = static_cast<std::size_t>(node.lane);
    Clock& clock = clocks[lane];
    switch (node.kind) {
      case Node::Kind::kOperation: ++clock[lane]; break;
      case Node::Kind::kRecord: marks[node.mark] = clock; break;
      case Node::Kind::kWait:
        for (std::size_t i = 0; i < clock.size(); ++i) clock[i] = std::max(clock[i], marks[node.mark][i]);
        break;
    }
  }
  for (std::size_t lane = 1; lane < clocks.size(); ++lane) {
    if (clocks[0][lane] != clocks[lane][lane]) return false;
  }
  return true;
}

cudaError_t outcome_of(const Graph& graph) {
  if (graph.is_spoilt) return cudaErrorStreamCaptureInvalidated;
  return is_joined(graph) ? cudaSuccess : cudaErrorStreamCaptureUnjoined;
}

}  // namespace

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode) {
  Stream* stream = stream_of(handle);
  const auto graph = std::make_shared<Graph>();
  graph->handle = graph;
  graph->captured.push_back(stream);
  graph->num_lanes = 1;
  stream->graph = graph.get();
  stream->lane = 0;
  set_captured_graph(graph.get());
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* result) {
  *result = nullptr;
  Graph* graph = stream_of(handle)->graph;
  if (graph == nullptr) return returned(cudaErrorIllegalState);
  for (Stream* stream : graph->captured) stream->graph = nullptr;
  set_captured_graph(nullptr);
  graph->is_over = true;
  const cudaError_t outcome = outcome_of(*graph);
  if (outcome == cudaSuccess) {
    *result = reinterpret_cast<cudaGraph_t>(graph);
  } else {
    graph->handle.reset();
  }
  return returned(outcome);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = stream_of(stream)->graph == nullptr ? cudaStreamCaptureStatusNone : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  *mode = exchange_capture_mode(*mode);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* result, cudaGraph_t handle, unsigned long long) {
  const auto& graph = *reinterpret_cast<Graph*>(handle);
  auto* launches = new GraphLaunches{graph.nodes, graph.num_marks, {}};
  for (int lane = 1; lane < graph.num_lanes; ++lane) launches->lanes.push_back(make_stream(false));
  *result = reinterpret_cast<cudaGraphExec_t>(launches);
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream_handle) {
  const auto& launches = *reinterpret_cast<GraphLaunches*>(handle);
  Stream* first = stream_of(stream_handle);
  std::vector<std::shared_ptr<Mark>> marks(launches.num_marks);
  for (auto& mark : marks) mark = std::make_shared<Mark>();
  auto begin = std::make_shared<Mark>();
  enqueue_uncaptured(first, [begin] { begin->set(); });
  for (Stream* lane : launches.lanes) lane->add([begin] { begin->wait(); });
  for (const Node& node : launches.nodes) {
    Stream* lane = node.lane == 0 ? first : launches.lanes[static_cast<std::size_t>(node.lane - 1)];
    switch (node.kind) {
      case Node::Kind::kOperation: lane->add(node.operation); break;
      case Node::Kind::kRecord: lane->add([mark = marks[node.mark]] { mark->set(); }); break;
      case Node::Kind::kWait: lane->add([mark = marks[node.mark]] { mark->wait(); }); break;
    }
  }
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  reinterpret_cast<Graph*>(graph)->handle.reset();
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t launches) {
  for (Stream* lane : reinterpret_cast<GraphLaunches*>(launches)->lanes) destroy_stream(lane);
  delete reinterpret_cast<GraphLaunches*>(launches);
  return cudaSuccess;
}
