// What a benchmark of overlap tells people and programs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cli/bench_setup.hpp"
#include "cli/gpu_bench_report.hpp"
#include "cli/record.hpp"

namespace tokenyard::cli {

// The product beside which rows cross: [num_rows, width] times [width, width].
struct ProductScene {
  std::int64_t num_rows = 0;
  std::int64_t width = 0;
  int cublas_version = 0;
};

// A step over all ranks: microseconds by iteration, of the slowest rank.
struct OverlapResult {
  std::string operation;
  std::string copies;  // as --copies
  bool is_urgent = false;
  int num_sms = 0;  // 0: chosen by the library
  std::vector<double> product_alone;
  std::vector<double> product_beside;
  std::vector<double> call_alone;
  std::vector<double> call_beside;
  std::int64_t checked_rows = 0;
  std::int64_t wrong_rows = 0;
};

// The line of a step, under the names of the columns.
Record to_overlap_record(const OverlapResult& result);

// gpu_bench_header and the product.
Record overlap_header(const BenchSetup& setup, const GpuScene& scene, const ProductScene& product);

std::string overlap_heading(const BenchSetup& setup, const GpuScene& scene, const ProductScene& product);

}  // namespace tokenyard::cli
