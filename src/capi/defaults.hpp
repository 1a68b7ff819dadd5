// The initialisers of tokenyard.h by type: what a field has that a caller does not know yet.
#pragma once

#include "tokenyard.h"

namespace tokenyard::capi {

// Declared for none but the structs below.
template <class T>
extern const T kDefaults;

template <>
inline constexpr ty_tensor kDefaults<ty_tensor> = TY_TENSOR_INIT;
template <>
inline constexpr ty_tcp_rendezvous kDefaults<ty_tcp_rendezvous> = TY_TCP_RENDEZVOUS_INIT;
template <>
inline constexpr ty_device kDefaults<ty_device> = TY_DEVICE_INIT;
template <>
inline constexpr ty_group_options kDefaults<ty_group_options> = TY_GROUP_OPTIONS_INIT;
template <>
inline constexpr ty_lane kDefaults<ty_lane> = TY_LANE_INIT;
template <>
inline constexpr ty_quantization kDefaults<ty_quantization> = TY_QUANTIZATION_INIT;
template <>
inline constexpr ty_placement kDefaults<ty_placement> = TY_PLACEMENT_INIT;
template <>
inline constexpr ty_shape kDefaults<ty_shape> = TY_SHAPE_INIT;
template <>
inline constexpr ty_execution kDefaults<ty_execution> = TY_EXECUTION_INIT;
template <>
inline constexpr ty_dispatch_args kDefaults<ty_dispatch_args> = TY_DISPATCH_ARGS_INIT;
template <>
inline constexpr ty_combine_args kDefaults<ty_combine_args> = TY_COMBINE_ARGS_INIT;
template <>
inline constexpr ty_router_options kDefaults<ty_router_options> = TY_ROUTER_OPTIONS_INIT;

}  // namespace tokenyard::capi
