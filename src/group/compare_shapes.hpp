// Finds out whether all ranks describe the same plan.
#pragma once

#include <chrono>
#include <string>

#include "tokenyard/exchange.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard {

// Collective, blocking. Throws this rank's own complaint about its shape, or Error(kDisagreement) that names ranks and fields.
void compare_shapes(Exchange& exchange, const Shape& shape, std::chrono::milliseconds timeout);

}  // namespace tokenyard
