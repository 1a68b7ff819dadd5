// ty_tensor and the C++ views.
#pragma once

#include "capi/boundary.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::capi {

// Of a tensor that has been read (read_struct). Throws Error(kInvalidArgument) for dimensions and types that do not exist.
TensorView view_of(const ty_tensor& tensor, const char* name);

// An argument; null is an empty view.
TensorView read_tensor(const ty_tensor* tensor, const char* name);

void write_tensor(const ConstTensorView& view, ty_tensor* tensor, const char* name);

}  // namespace tokenyard::capi
