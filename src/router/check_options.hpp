#pragma once

#include "tokenyard/router.hpp"

namespace tokenyard {

// Throws Error(kInvalidArgument) for options that cannot be.
void check_options(const RouterOptions& options);

}  // namespace tokenyard
