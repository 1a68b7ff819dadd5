#include "tokenyard/plan.hpp"

#include <algorithm>

#include "capi/call_args.hpp"
#include "capi/handles.hpp"
#include "capi/shape.hpp"
#include "capi/structs.hpp"

using namespace tokenyard;
using namespace tokenyard::capi;

ty_status ty_plan_create(ty_group* group, const ty_shape* shape, ty_plan** plan) {
  return guarded_create(plan, "plan", [&] {
    return std::unique_ptr<ty_plan>(new ty_plan{required(group, "group").group.plan(read_shape(shape))});
  });
}

void ty_plan_destroy(ty_plan* plan) { delete plan; }

int32_t ty_plan_num_local_experts(const ty_plan* plan) { return plan == nullptr ? -1 : plan->plan.num_local_experts(); }

ty_status ty_plan_get_sizes(const ty_plan* plan, ty_plan_sizes* sizes) {
  return guarded([&] { write_plan_sizes(required(plan, "plan").plan.sizes(), sizes); });
}

ty_status ty_plan_get_region(const ty_plan* plan, int32_t region_idx, ty_region* region) {
  return guarded([&] { write_region(required(plan, "plan").plan.sizes(), region_idx, region); });
}

ty_status ty_plan_dispatch(ty_plan* plan, const ty_dispatch_args* args, ty_received** received) {
  return guarded_create(received, "received", [&] {
    const DispatchArguments arguments(args);
    return std::make_unique<ty_received>(required(plan, "plan").plan.dispatch(arguments.args()));
  });
}

ty_status ty_plan_combine(ty_plan* plan, const ty_combine_args* args) {
  return guarded([&] { required(plan, "plan").plan.combine(read_combine_args(args)); });
}

ty_status ty_plan_begin_dispatch(ty_plan* plan, const ty_dispatch_args* args, ty_pending** pending) {
  return guarded_create(pending, "pending", [&] {
    const DispatchArguments arguments(args);
    auto made = std::make_unique<ty_pending>();
    made->call = required(plan, "plan").plan.begin_dispatch(arguments.args());
    return made;
  });
}

ty_status ty_plan_begin_combine(ty_plan* plan, const ty_combine_args* args, ty_pending** pending) {
  return guarded_create(pending, "pending", [&] {
    const CombineArgs arguments = read_combine_args(args);
    auto made = std::make_unique<ty_pending>();
    made->call = required(plan, "plan").plan.begin_combine(arguments);
    return made;
  });
}

ty_status ty_plan_mask_rank(ty_plan* plan, int32_t rank) {
  return guarded([&] { required(plan, "plan").plan.mask_rank(rank); });
}

ty_status ty_plan_get_masked_ranks(const ty_plan* plan, int32_t* ranks, int32_t capacity, int32_t* num_masked) {
  return guarded([&] {
    if (capacity < 0) fail_argument("capacity is {}: it must not be negative", capacity);
    if (capacity != 0) required(ranks, "ranks");
    std::int32_t& written = required(num_masked, "num_masked");
    const std::vector<int> masked = required(plan, "plan").plan.masked_ranks();
    std::copy_n(masked.begin(), std::min(masked.size(), static_cast<std::size_t>(capacity)), ranks);
    written = static_cast<std::int32_t>(masked.size());
  });
}

ty_status ty_plan_get_counters(const ty_plan* plan, int32_t rank, ty_peer_counters* counters) {
  return guarded([&] {
    const std::vector<PeerCounters> all = required(plan, "plan").plan.counters();
    if (rank < 0 || static_cast<std::size_t>(rank) >= all.size()) {
      fail_argument("rank is {}: the plan has counters of {} ranks", rank, all.size());
    }
    const PeerCounters& found = all[static_cast<std::size_t>(rank)];
    ty_peer_counters written = TY_PEER_COUNTERS_INIT;
    written.num_calls = found.num_calls;
    written.num_rows = found.num_rows;
    written.wait_nanoseconds = found.wait_nanoseconds;
    write_struct(written, counters, "counters");
  });
}

ty_status ty_plan_place(ty_plan* plan, const ty_placement* placement) {
  return guarded([&] { required(plan, "plan").plan.place(read_placement(placement, "placement")); });
}
