// The runtime's functions for graphs.

#include <cuda_runtime_api.h>

#include <memory>
#include <vector>

#include "tests/software_gpu/context.hpp"
#include "tests/software_gpu/graph.hpp"
#include "tests/software_gpu/stream.hpp"

using namespace software_gpu;

namespace {

struct GraphLaunches {
  Graph graph;
  std::vector<Stream*> lanes;  // from 1 on
};

}  // namespace

cudaError_t cudaStreamBeginCapture(cudaStream_t handle, cudaStreamCaptureMode) {
  Stream* stream = stream_of(handle);
  auto* graph = new Graph;
  graph->captured.push_back(stream);
  graph->num_lanes = 1;
  stream->graph = graph;
  stream->lane = 0;
  set_captured_graph(graph);
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t handle, cudaGraph_t* result) {
  Graph* graph = stream_of(handle)->graph;
  for (Stream* stream : graph->captured) stream->graph = nullptr;
  set_captured_graph(nullptr);
  *result = reinterpret_cast<cudaGraph_t>(graph);
  if (!graph->is_spoilt) return cudaSuccess;
  *result = nullptr;
  delete graph;
  return returned(cudaErrorStreamCaptureInvalidated);
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  *status = stream_of(stream)->graph == nullptr ? cudaStreamCaptureStatusNone : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* result, cudaGraph_t graph, unsigned long long) {
  auto* launches = new GraphLaunches{*reinterpret_cast<Graph*>(graph), {}};
  for (int lane = 1; lane < launches->graph.num_lanes; ++lane) launches->lanes.push_back(make_stream(false));
  *result = reinterpret_cast<cudaGraphExec_t>(launches);
  return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaGraphLaunch(cudaGraphExec_t handle, cudaStream_t stream_handle) {
  const auto& launches = *reinterpret_cast<GraphLaunches*>(handle);
  Stream* first = stream_of(stream_handle);
  std::vector<std::shared_ptr<Mark>> marks(launches.graph.num_marks);
  for (auto& mark : marks) mark = std::make_shared<Mark>();
  auto begin = std::make_shared<Mark>();
  enqueue_uncaptured(first, [begin] { begin->set(); });
  for (Stream* lane : launches.lanes) lane->add([begin] { begin->wait(); });
  for (const Node& node : launches.graph.nodes) {
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
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t launches) {
  for (Stream* lane : reinterpret_cast<GraphLaunches*>(launches)->lanes) destroy_stream(lane);
  delete reinterpret_cast<GraphLaunches*>(launches);
  return cudaSuccess;
}
