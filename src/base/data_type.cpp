#include "tokenyard/tensor_view.hpp"

namespace tokenyard {

const char* to_string(DataType dtype) noexcept {
  switch (dtype) {
    case DataType::kByte: return "byte";
    case DataType::kFloat8E4M3: return "float8_e4m3";
    case DataType::kUE8M0: return "ue8m0";
    case DataType::kFloat16: return "float16";
    case DataType::kBFloat16: return "bfloat16";
    case DataType::kFloat32: return "float32";
    case DataType::kFloat64: return "float64";
    case DataType::kInt32: return "int32";
    case DataType::kInt64: return "int64";
  }
  return "unknown type";
}

}  // namespace tokenyard
