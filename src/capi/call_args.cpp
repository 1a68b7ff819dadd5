#include "capi/call_args.hpp"

#include <cstring>
#include <new>

#include "capi/handles.hpp"
#include "capi/structs.hpp"
#include "capi/tensors.hpp"
#include "capi/values.hpp"

namespace tokenyard::capi {
namespace {

// Where an allocation callback puts a tensor: roomy enough for the ty_tensor of a newer header, should the callback assign a
// whole struct.
struct alignas(ty_tensor) TensorPlace {
  TensorPlace() { std::memcpy(bytes, &kDefaults<ty_tensor>, sizeof(ty_tensor)); }
  ty_tensor* get() noexcept { return std::launder(reinterpret_cast<ty_tensor*>(bytes)); }

  unsigned char bytes[512] = {};
};

// Of lists whose length the plan will compare: what no plan has is not even read.
void check_most_lanes(std::int32_t number, const char* name) {
  if (number > kMaxLanes) fail_argument("{} is {}: a plan has 1 to {} lanes", name, number, kMaxLanes);
}

ty_recv_sizes sizes_of(const RecvSizes& sizes) {
  ty_recv_sizes written = TY_RECV_SIZES_INIT;
  written.num_recv_rows = sizes.num_recv_rows;
  written.num_expanded_rows = sizes.num_expanded_rows;
  written.num_tensor_rows = sizes.num_tensor_rows;
  written.num_local_experts = sizes.num_local_experts;
  return written;
}

auto allocate_by(ty_allocate_function allocate, void* context) {
  return [allocate, context](const RecvSizes& sizes, std::span<TensorView> outputs) {
    const ty_recv_sizes given = sizes_of(sizes);
    std::vector<TensorPlace> places(outputs.size());
    std::vector<ty_tensor*> pointers;
    for (TensorPlace& place : places) pointers.push_back(place.get());
    forget_error();
    const ty_status status = allocate(context, &given, pointers.data(), static_cast<std::int32_t>(outputs.size()));
    if (status != TY_OK) throw_callback_error("the allocation function", status);
    for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i] = read_tensor(pointers[i], "what the allocation function gave");
  };
}

}  // namespace

DispatchArguments::DispatchArguments(const ty_dispatch_args* given) {
  const ty_dispatch_args read = read_struct(given, "args");
  check_most_lanes(read.num_lanes, "args->num_lanes");
  check_most_lanes(read.num_outputs, "args->num_outputs");
  for_each_struct(read.lanes, read.num_lanes, "args->lanes",
                  [&](const ty_tensor& lane, std::int32_t) { lanes_.push_back(view_of(lane, "args->lanes")); });
  for_each_struct(read.outputs, read.num_outputs, "args->outputs",
                  [&](const ty_tensor& output, std::int32_t) { outputs_.push_back(view_of(output, "args->outputs")); });
  args_.lanes = lanes_;
  args_.topk_idx = read_tensor(read.topk_idx, "args->topk_idx");
  args_.routing = read.routing == nullptr ? nullptr : &read.routing->routing;
  args_.topk_weights = read_tensor(read.topk_weights, "args->topk_weights");
  args_.slot = read.slot;
  args_.outputs = outputs_;
  if (read.allocate != nullptr) args_.allocate = allocate_by(read.allocate, read.allocate_context);
  args_.timeout = timeout_or_group(read.timeout_ms, "args->timeout_ms");
  args_.execution = read_execution(read.execution, "args->execution");
}

CombineArgs read_combine_args(const ty_combine_args* given) {
  const ty_combine_args read = read_struct(given, "args");
  CombineArgs args;
  if (read.num_biases < 0 || read.num_biases > static_cast<std::int32_t>(args.biases.size())) {
    fail_argument("args->num_biases is {}: it must be from 0 to {}", read.num_biases, args.biases.size());
  }
  args.routing = &required(read.routing, "args->routing").routing;
  args.rows = read_tensor(read.rows, "args->rows");
  args.factors = read_tensor(read.factors, "args->factors");
  args.use_routing_weights = flag_of(read.use_routing_weights, "args->use_routing_weights");
  args.topk_weights = read_tensor(read.topk_weights, "args->topk_weights");
  args.carried_weights = read_tensor(read.carried_weights, "args->carried_weights");
  args.returned_weights = read_tensor(read.returned_weights, "args->returned_weights");
  for_each_struct(read.biases, read.num_biases, "args->biases", [&](const ty_tensor& bias, std::int32_t i) {
    args.biases[static_cast<std::size_t>(i)] = view_of(bias, "args->biases");
  });
  args.output = read_tensor(read.output, "args->output");
  args.slot = read.slot;
  args.timeout = timeout_or_group(read.timeout_ms, "args->timeout_ms");
  args.execution = read_execution(read.execution, "args->execution");
  return args;
}

Execution read_execution(const ty_execution* given, const char* name) {
  Execution execution;
  if (given == nullptr) return execution;
  const ty_execution read = read_struct(given, name);
  execution.stream = static_cast<Stream>(read.stream);
  execution.wait_for = static_cast<Event>(read.wait_for);
  execution.record = static_cast<Event>(read.record);
  execution.num_sms = read.num_sms;
  execution.copies = enum_of(read.copies, Copies::kEngine, "execution->copies");
  return execution;
}

}  // namespace tokenyard::capi
