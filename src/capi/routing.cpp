#include "tokenyard/routing.hpp"

#include "capi/handles.hpp"
#include "capi/tensors.hpp"

using namespace tokenyard;
using namespace tokenyard::capi;

namespace {

int64_t number_of(const ty_routing* routing, std::int64_t (Routing::*accessor)() const) noexcept {
  std::int64_t number = -1;
  guarded([&] { number = (required(routing, "routing").routing.*accessor)(); });
  return number;
}

ty_status tensor_of(const ty_routing* routing, ConstTensorView (Routing::*accessor)() const, ty_tensor* tensor) noexcept {
  return guarded([&] { write_tensor((required(routing, "routing").routing.*accessor)(), tensor, "tensor"); });
}

}  // namespace

void ty_routing_destroy(ty_routing* routing) { delete routing; }

int64_t ty_routing_num_tokens(const ty_routing* routing) { return number_of(routing, &Routing::num_tokens); }
int64_t ty_routing_num_recv_rows(const ty_routing* routing) { return number_of(routing, &Routing::num_recv_rows); }
int64_t ty_routing_num_expanded_rows(const ty_routing* routing) { return number_of(routing, &Routing::num_expanded_rows); }
int64_t ty_routing_num_dropped(const ty_routing* routing) { return number_of(routing, &Routing::num_dropped); }

ty_status ty_routing_topk_idx(const ty_routing* routing, ty_tensor* tensor) {
  return tensor_of(routing, &Routing::topk_idx, tensor);
}
ty_status ty_routing_topk_weights(const ty_routing* routing, ty_tensor* tensor) {
  return tensor_of(routing, &Routing::topk_weights, tensor);
}
ty_status ty_routing_source_token(const ty_routing* routing, ty_tensor* tensor) {
  return tensor_of(routing, &Routing::source_token, tensor);
}
ty_status ty_routing_source_offsets(const ty_routing* routing, ty_tensor* tensor) {
  return tensor_of(routing, &Routing::source_offsets, tensor);
}
ty_status ty_routing_expert_counts(const ty_routing* routing, ty_tensor* tensor) {
  return tensor_of(routing, &Routing::expert_counts, tensor);
}
ty_status ty_routing_expert_dropped(const ty_routing* routing, ty_tensor* tensor) {
  return tensor_of(routing, &Routing::expert_dropped, tensor);
}
ty_status ty_routing_expert_offsets(const ty_routing* routing, ty_tensor* tensor) {
  return tensor_of(routing, &Routing::expert_offsets, tensor);
}
ty_status ty_routing_expanded_row(const ty_routing* routing, ty_tensor* tensor) {
  return tensor_of(routing, &Routing::expanded_row, tensor);
}
ty_status ty_routing_gather_idx(const ty_routing* routing, ty_tensor* tensor) {
  return tensor_of(routing, &Routing::gather_idx, tensor);
}
ty_status ty_routing_expanded_source_token(const ty_routing* routing, ty_tensor* tensor) {
  return tensor_of(routing, &Routing::expanded_source_token, tensor);
}
ty_status ty_routing_expert_source_offsets(const ty_routing* routing, ty_tensor* tensor) {
  return tensor_of(routing, &Routing::expert_source_offsets, tensor);
}
ty_status ty_routing_expanded_weights(const ty_routing* routing, ty_tensor* tensor) {
  return tensor_of(routing, &Routing::expanded_weights, tensor);
}
