// FP8 with one scale per 128 values. As tokenyard/quantize.hpp, on a device, to the bit.
#pragma once

#include "kernels/cuda/launch.hpp"
#include "tokenyard/quantize.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cuda {

// In device memory; elements are aligned to their size. Shapes, types and strides are those that tokenyard::quantize takes, and
// the caller has checked them.
struct QuantizeArgs {
  ConstTensorView values{};
  ScaleFormat format = ScaleFormat::kFloat32;
  TensorView quantized{};
  TensorView scales{};
};

// Reads 16 bytes at a time where rows of values are aligned to 16 bytes, and those of the quantized to 8. Stream-ordered,
// capturable.
void quantize(const QuantizeArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
