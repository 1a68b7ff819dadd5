#include "cli/shape_options.hpp"

#include <fmt/core.h>

#include <array>
#include <charconv>
#include <utility>

#include "cli/usage_error.hpp"
#include "tokenyard/quantize.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::array kDataTypes{DataType::kByte,    DataType::kFloat8E4M3, DataType::kUE8M0,
                                DataType::kFloat16, DataType::kBFloat16,   DataType::kFloat32,
                                DataType::kFloat64, DataType::kInt32,      DataType::kInt64};

}  // namespace

Mode parse_mode(const std::string& text) {
  if (text == "throughput") return Mode::kThroughput;
  if (text == "latency") return Mode::kLatency;
  throw UsageError(fmt::format("unknown mode \"{}\"; expected throughput or latency", text));
}

Layout parse_layout(const std::string& text) {
  if (text == "compact") return Layout::kCompact;
  if (text == "expert-contiguous") return Layout::kExpertContiguous;
  if (text == "expert-padded") return Layout::kExpertPadded;
  throw UsageError(fmt::format("unknown layout \"{}\"; expected compact, expert-contiguous or expert-padded", text));
}

Overflow parse_overflow(const std::string& text) {
  if (text == "grow") return Overflow::kGrow;
  if (text == "drop") return Overflow::kDrop;
  throw UsageError(fmt::format("unknown overflow \"{}\"; expected grow or drop", text));
}

DataType parse_data_type(const std::string& text) {
  std::string known;
  for (DataType dtype : kDataTypes) {
    if (text == to_string(dtype)) return dtype;
    known += known.empty() ? "" : ", ";
    known += to_string(dtype);
  }
  throw UsageError(fmt::format("unknown element type \"{}\"; expected one of {}", text, known));
}

Lane parse_lane(const std::string& text) {
  const std::size_t colon = text.find(':');
  std::int64_t num_elements = 0;
  const char* end = text.data() + text.size();
  if (colon == std::string::npos)
    throw UsageError(fmt::format("\"{}\" is no lane; expected TYPE:COUNT, as in bfloat16:7168", text));
  const auto [stop, error] = std::from_chars(text.data() + colon + 1, end, num_elements);
  if (error != std::errc{} || stop != end || num_elements < 1) {
    throw UsageError(
        fmt::format("\"{}\" is no lane; expected TYPE:COUNT with a count of 1 or more, as in bfloat16:7168", text));
  }
  return {.dtype = parse_data_type(text.substr(0, colon)), .num_elements = num_elements};
}

std::vector<Lane> lanes_of(const std::string& dtype, std::int64_t hidden) {
  if (dtype == "fp8") {
    return {{.dtype = DataType::kFloat8E4M3, .num_elements = hidden},
            {.dtype = DataType::kFloat32, .num_elements = (hidden + kScaleBlock - 1) / kScaleBlock}};
  }
  return {{.dtype = parse_data_type(dtype), .num_elements = hidden}};
}

std::optional<Lane> combine_lane_of(const std::string& dtype, std::int64_t hidden) {
  if (dtype == "byte") return std::nullopt;
  return Lane{.dtype = dtype == "fp8" ? DataType::kBFloat16 : parse_data_type(dtype), .num_elements = hidden};
}

std::optional<Quantization> quantization_of(const std::string& quantize, const std::string& dtype) {
  if (quantize == "none") return std::nullopt;
  if (dtype != "float32" && dtype != "bfloat16" && dtype != "float16") {
    throw UsageError(
        fmt::format("--quantize {} starts from float32, bfloat16 or float16 rows, not from --dtype {}", quantize, dtype));
  }
  const DataType from = parse_data_type(dtype);
  if (quantize == "float8") return Quantization{.from = from, .format = ScaleFormat::kFloat32};
  if (quantize == "float8-power-of-2") return Quantization{.from = from, .format = ScaleFormat::kFloat32PowerOf2};
  if (quantize == "float8-ue8m0") return Quantization{.from = from, .format = ScaleFormat::kUE8M0};
  throw UsageError(fmt::format("--quantize {}: expected none, float8, float8-power-of-2 or float8-ue8m0", quantize));
}

std::vector<Lane> quantized_lanes(ScaleFormat format, std::int64_t hidden) {
  return {{.dtype = DataType::kFloat8E4M3, .num_elements = hidden},
          {.dtype = format == ScaleFormat::kUE8M0 ? DataType::kUE8M0 : DataType::kFloat32,
           .num_elements = (hidden + kScaleBlock - 1) / kScaleBlock}};
}

std::int64_t row_bytes(const std::vector<Lane>& lanes) {
  std::size_t num_bytes = 0;
  for (const Lane& lane : lanes) num_bytes += lane.row_bytes();
  return static_cast<std::int64_t>(num_bytes);
}

}  // namespace tokenyard::cli
