#include "cli/gpu_overlap_report.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <vector>

#include "cli/bench_configuration.hpp"
#include "cli/statistics.hpp"
#include "cli/table.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard::cli {
namespace {

constexpr double kMedian = 50;

// Each product is compared with the one just before, since clocks drift.
double median_loss(const OverlapResult& result) {
  std::vector<double> losses;
  for (std::size_t i = 0; i < std::min(result.product_alone.size(), result.product_beside.size()); ++i) {
    losses.push_back(result.product_beside[i] / result.product_alone[i] - 1);
  }
  return percentile(losses, kMedian);
}

}  // namespace

Record to_overlap_record(const OverlapResult& result) {
  const double alone = percentile(result.product_alone, kMedian);
  const double beside = percentile(result.product_beside, kMedian);
  const bool is_checked = result.checked_rows > 0;
  return {{"operation", result.operation},
          {"copies", result.copies},
          {"priority", result.is_urgent ? "higher" : "lower"},
          {"sms", result.num_sms},
          {"product_us", alone},
          {"product_beside_us", beside},
          {"loss_percent", median_loss(result) * 100},
          {"call_us", percentile(result.call_alone, kMedian)},
          {"call_beside_us", percentile(result.call_beside, kMedian)},
          {"checked_rows", is_checked ? Value(result.checked_rows) : Value()},
          {"wrong_rows", is_checked ? Value(result.wrong_rows) : Value()}};
}

Record overlap_header(const BenchSetup& setup, const GpuScene& scene, const ProductScene& product) {
  Record header = gpu_bench_header(setup, scene);
  const Record fields{{"product_rows", product.num_rows},
                      {"product_width", product.width},
                      {"product_dtype", "bfloat16"},
                      {"cublas_version", product.cublas_version}};
  header.insert(header.end(), fields.begin(), fields.end());
  return header;
}

std::string overlap_heading(const BenchSetup& setup, const GpuScene& scene, const ProductScene& product) {
  const BenchOptions& options = setup.options;
  std::string text =
      fmt::format("tokenyard {} bench: calls beside a matrix product on GPUs, {}\n", version(), setup.rank_description);
  text += scene_line(scene);
  text += shape_line(setup, with_commas(setup.num_tokens));
  text += fmt::format("  routing     {}, seed {}\n", options.routing, options.seed);
  text += rows_line(setup);
  text += fmt::format("  product     [{0}, {1}] x [{1}, {1}] bfloat16, by cuBLAS {2}\n", with_commas(product.num_rows),
                      with_commas(product.width), product.cublas_version);
  text += measuring_lines(setup);
  return text +
         "\n"
         "  copies             what moves rows, as --copies\n"
         "  priority           of the call's stream, compared with that of the product: if higher, the call is launched first\n"
         "  sms                of a call; the product gets those that calls leave, also when it is alone\n"
         "  product_us         microseconds of the product alone: median of the slowest rank\n"
         "  product_beside_us  the same while a call runs, which begins at the same time\n"
         "  loss_percent       by which a product beside a call exceeds the one just before: median\n"
         "  call_us            of the call alone; call_beside_us: beside the product\n"
         "  checked_rows       rows compared with what plain loops expect, - without --check; wrong_rows: those that differ\n"
         "\n";
}

}  // namespace tokenyard::cli
