// Every initialiser and inline function of the header, for all the languages that it promises to serve.
#include "tokenyard.h"

ty_status use_header(void);

ty_status use_header(void) {
  static const ty_tensor constant = TY_TENSOR_INIT;
  ty_failure failure = TY_FAILURE_INIT;
  ty_tcp_rendezvous rendezvous = TY_TCP_RENDEZVOUS_INIT;
  ty_device device = TY_DEVICE_INIT;
  ty_group_options group_options = TY_GROUP_OPTIONS_INIT;
  ty_device_window device_window = TY_DEVICE_WINDOW_INIT;
  ty_lane lane = TY_LANE_INIT;
  ty_quantization quantization = TY_QUANTIZATION_INIT;
  ty_placement placement = TY_PLACEMENT_INIT;
  ty_shape shape = TY_SHAPE_INIT;
  ty_plan_sizes plan_sizes = TY_PLAN_SIZES_INIT;
  ty_region region = TY_REGION_INIT;
  ty_recv_sizes recv_sizes = TY_RECV_SIZES_INIT;
  ty_execution execution = TY_EXECUTION_INIT;
  ty_dispatch_args dispatch = TY_DISPATCH_ARGS_INIT;
  ty_combine_args combine = TY_COMBINE_ARGS_INIT;
  ty_peer_counters counters = TY_PEER_COUNTERS_INIT;
  ty_router_options router_options = TY_ROUTER_OPTIONS_INIT;
  ty_tensor tensor = ty_tensor_of_rows(&lane, TY_BYTE, 1, (int64_t)sizeof(lane));
  shape.lanes = &lane;
  shape.quantization = &quantization;
  shape.placement = &placement;
  dispatch.lanes = &tensor;
  combine.rows = &constant;
  dispatch.execution = &execution;
  group_options.device = &device;
  return failure.code + rendezvous.rank + group_options.waiting + plan_sizes.num_slots + region.is_metadata +
         (ty_status)recv_sizes.num_recv_rows + (ty_status)counters.num_calls + router_options.top_k + shape.num_lanes +
         dispatch.num_lanes + combine.num_biases + device_window.num_ranks;
}
