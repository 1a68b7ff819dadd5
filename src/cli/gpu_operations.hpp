// The names of what `bench --device cuda` measures, as they stand in tables and JSON.
#pragma once

namespace tokenyard::cli {

inline constexpr const char* kDispatchCached = "dispatch_cached";
inline constexpr const char* kDispatch = "dispatch";
inline constexpr const char* kDispatchCapacity = "dispatch_capacity";
inline constexpr const char* kCombineInPlace = "combine_in_place";
inline constexpr const char* kCombine = "combine";
inline constexpr const char* kGraph = "graph";
inline constexpr const char* kCopyEngine = "copy_engine";
inline constexpr const char* kCopyEngineOneWay = "copy_engine_one_way";
inline constexpr const char* kNcclAllToAll = "nccl_alltoallv";

}  // namespace tokenyard::cli
