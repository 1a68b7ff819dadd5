// What can be said about a call's arguments before anything is sent. All throw Error(kInvalidArgument) with the value, the
// limit and the way out.
#pragma once

#include <string>

#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

// A dense tensor like `wanted`, which may have more rows if it has two dimensions. `wanted` needs no memory.
void check_output(const std::string& name, const TensorView& output, const TensorView& wanted);

}  // namespace tokenyard
