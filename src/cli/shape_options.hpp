// The words of the command line as parts of a Shape.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tokenyard/shape.hpp"

namespace tokenyard::cli {

// All throw UsageError with the value and what was expected.
Mode parse_mode(const std::string& text);          // throughput, latency
Layout parse_layout(const std::string& text);      // compact, expert-contiguous, expert-padded
Overflow parse_overflow(const std::string& text);  // grow, drop
DataType parse_data_type(const std::string& text);
Lane parse_lane(const std::string& text);  // TYPE:COUNT, as in bfloat16:7168

// The lanes of a payload of `hidden` values. "fp8" makes two: the values, and a float32 scale per 128 of them.
std::vector<Lane> lanes_of(const std::string& dtype, std::int64_t hidden);

// What combine carries for such a payload: bfloat16 for fp8, nothing for byte, else the payload's own type.
std::optional<Lane> combine_lane_of(const std::string& dtype, std::int64_t hidden);

// What `quantize` says about rows of `dtype`: none, float8, float8-power-of-2 or float8-ue8m0. Scales are float32, float32
// rounded up to powers of two, or those powers as exponent bytes.
std::optional<Quantization> quantization_of(const std::string& quantize, const std::string& dtype);

// The lanes that such rows become: FP8 values, and a scale per 128 of them.
std::vector<Lane> quantized_lanes(ScaleFormat format, std::int64_t hidden);

// Bytes of all lanes of one token.
std::int64_t row_bytes(const std::vector<Lane>& lanes);

}  // namespace tokenyard::cli
