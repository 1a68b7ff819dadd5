// ty_shape and the structs in it, and the sizes that follow.
#pragma once

#include "tokenyard.h"
#include "tokenyard/shape.hpp"

namespace tokenyard::capi {

Shape read_shape(const ty_shape* given);
PlacementTable read_placement(const ty_placement* given, const char* name);

void write_plan_sizes(const PlanSizes& sizes, ty_plan_sizes* given);
void write_region(const PlanSizes& sizes, std::int32_t region_idx, ty_region* given);

}  // namespace tokenyard::capi
