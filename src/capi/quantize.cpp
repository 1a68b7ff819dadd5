#include "tokenyard/quantize.hpp"

#include "capi/tensors.hpp"
#include "capi/values.hpp"

using namespace tokenyard;
using namespace tokenyard::capi;

ty_status ty_quantize(const ty_tensor* values, ty_scale_format format, const ty_tensor* quantized, const ty_tensor* scales) {
  return guarded([&] {
    quantize(read_tensor(values, "values"), enum_of(format, ScaleFormat::kUE8M0, "format"), read_tensor(quantized, "quantized"),
             read_tensor(scales, "scales"));
  });
}

ty_status ty_dequantize(const ty_tensor* quantized, const ty_tensor* scales, const ty_tensor* values) {
  return guarded(
      [&] { dequantize(read_tensor(quantized, "quantized"), read_tensor(scales, "scales"), read_tensor(values, "values")); });
}
