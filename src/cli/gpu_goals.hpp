// How fast the throughput mode shall be between two H200 of one host.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace tokenyard::cli {

// What is moved: uniformly random top-8 ids, rows of `hidden` values.
struct GpuLoad {
  std::int64_t num_tokens;  // per rank
  std::int64_t hidden;
  int num_experts;
  std::string_view dtype;  // as --dtype
  friend bool operator==(const GpuLoad&, const GpuLoad&) = default;
};

struct GpuGoal {
  GpuLoad load;
  std::string_view operation;  // of gpu_operations.hpp
  bool copy_out;               // results of dispatch, or rows for combine, in ordinary tensors instead of the slot
  int num_sms;                 // at most
  double microseconds;
  bool by_engines = false;  // copy engines carry the rows, and num_sms pack or sum them
};

// Goals of one load stand together.
std::span<const GpuGoal> gpu_goals();

}  // namespace tokenyard::cli
