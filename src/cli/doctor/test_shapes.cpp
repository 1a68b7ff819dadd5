// The self-test of dispatch and combine: every row that arrives is compared with what plain loops expect.
#include <fmt/core.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cli/bench_rank.hpp"
#include "cli/bench_setup.hpp"
#include "cli/doctor/exam_room.hpp"
#include "cli/gather.hpp"
#include "cli/table.hpp"

namespace tokenyard::cli {
namespace {

struct ShapeCase {
  const char* mode;
  std::int64_t num_tokens;  // per rank
  std::int64_t hidden;
  int num_experts;
  int top_k;
  const char* dtype;
  const char* layout;
  const char* routing = "uniform";
  const char* output = "slot";
  const char* overflow = "grow";
  std::int64_t recv_capacity = 0;
  int alignment = 1;
  const char* quantize = "none";
};

// Both modes, every layout and payload, decode and prefill, balanced and not, grown and dropped.
constexpr const char* kThroughput = "throughput";
constexpr const char* kLatency = "latency";
constexpr std::array kCases{
    ShapeCase{kLatency, 1, 7168, 256, 8, "bfloat16", "compact"},
    ShapeCase{kLatency, 128, 7168, 256, 8, "bfloat16", "expert-padded", "uniform", "slot", "grow", 0, 1, "float8-ue8m0"},
    ShapeCase{kLatency, 64, 2048, 64, 6, "bfloat16", "expert-contiguous", "zipf:1"},
    ShapeCase{kThroughput, 1, 7168, 256, 8, "bfloat16", "compact"},
    ShapeCase{kThroughput, 128, 7168, 256, 8, "fp8", "compact"},
    ShapeCase{kThroughput, 128, 7168, 256, 8, "fp8", "expert-padded"},
    ShapeCase{kThroughput, 512, 2048, 64, 6, "bfloat16", "expert-contiguous", "zipf:1", "slot", "grow", 0, 128},
    ShapeCase{kThroughput, 512, 2048, 64, 6, "bfloat16", "compact", "zipf:2", "slot", "grow", 64},
    ShapeCase{kThroughput, 300, 1024, 32, 4, "float32", "expert-padded", "uniform", "caller"},
    ShapeCase{kThroughput, 300, 1024, 32, 4, "float16", "expert-contiguous", "uniform", "caller", "drop", 200, 8},
    ShapeCase{kThroughput, 64, 64, 64, 32, "float64", "compact"},
    ShapeCase{kThroughput, 256, 4096, 256, 8, "bfloat16", "expert-contiguous", "grouped:8/4"},
    ShapeCase{kThroughput, 200, 48, 7, 3, "byte", "compact", "uniform", "caller"},
    ShapeCase{kThroughput, 2048, 2048, 128, 8, "bfloat16", "compact"},
};

BenchOptions options_of(const ShapeCase& shape, std::uint64_t seed) {
  BenchOptions options;
  options.mode = shape.mode;
  options.token_counts = {shape.num_tokens};
  options.hidden = shape.hidden;
  options.num_experts = shape.num_experts;
  options.top_k = shape.top_k;
  options.dtype = shape.dtype;
  options.layout = shape.layout;
  options.routing = shape.routing;
  options.output = shape.output;
  options.overflow = shape.overflow;
  options.recv_capacity = shape.recv_capacity;
  options.alignment = shape.alignment;
  options.quantize = shape.quantize;
  options.bind = "none";
  options.caches = "warm";  // nothing is timed here
  options.seed = seed;
  options.num_iterations = 1;
  options.num_warmups = 1;
  options.check = true;
  return options;
}

std::string describe(const ShapeCase& shape) {
  return fmt::format("{} mode, {} tokens of {} {}, {} experts, top-{}, {}, {}", shape.mode, shape.num_tokens, shape.hidden,
                     shape.dtype, shape.num_experts, shape.top_k, shape.layout, shape.routing);
}

struct Tally {
  std::int64_t num_rows = 0;
  std::int64_t num_wrong = 0;
  std::string wrong_case;  // the first one
};

// Collective: runs one shape twice, and counts on all ranks together.
void run_case(ExamRoom& room, const ShapeCase& shape, std::uint64_t seed, Tally& tally) {
  BenchSetup setup = std::move(make_bench_setups(options_of(shape, seed), room.num_ranks()).at(0));
  setup.shows_progress = false;
  std::vector<std::int64_t> wrong_rows;
  for (const Measurement& measurement : measure_rank(setup, *room.group)) {
    wrong_rows.push_back(measurement.wrong_rows);
    if (measurement.operation == "memcpy") continue;
    const bool is_dispatch = measurement.operation.starts_with("dispatch");
    tally.num_rows += 2 * (is_dispatch ? setup.num_wire_rows() + setup.num_local_rows() : shape.num_tokens * room.num_ranks());
  }
  for (const std::vector<std::int64_t>& part : gather(*room.exchange, wrong_rows, room.timeout)) {
    for (std::size_t i = 0; i < part.size(); ++i) {
      if (part[i] > 0 && tally.wrong_case.empty()) tally.wrong_case = describe(shape);
      tally.num_wrong += part[i];
    }
  }
}

// Collective: rank 0's clock decides for all.
bool has_time_left(ExamRoom& room) {
  const auto answers = gather(*room.exchange, std::vector<std::int32_t>{room.end.passed() ? 0 : 1}, room.timeout);
  return answers[0].at(0) != 0;
}

}  // namespace

int num_tested_shapes() { return static_cast<int>(kCases.size()); }

void test_shapes(ExamRoom& room, SectionFindings& findings) {
  Tally tally;
  std::size_t num_done = 0;
  while (num_done < kCases.size() && has_time_left(room)) {
    run_case(room, kCases[num_done], num_done + 1, tally);
    ++num_done;
    room.advance();
  }
  const char* name = "shapes";
  if (tally.num_wrong > 0) {
    findings.failure(
        name,
        fmt::format("{} of {} rows of dispatch and combine are wrong", with_commas(tally.num_wrong),
                    with_commas(tally.num_rows)),
        "first seen with " + tally.wrong_case,
        "run doctor again; if it repeats, report it as a bug with this page; if not, suspect the memory of this host: "
        "dmesg | grep -i -e mce -e edac");
    return;
  }
  const std::string value = fmt::format("dispatch and combine of {} of {} shapes, {} rows, none wrong", num_done, kCases.size(),
                                        with_commas(tally.num_rows));
  if (num_done < kCases.size()) {
    findings.warning(name, value, fmt::format("{} ms were over before the others began", room.end.timeout().count()),
                     "--seconds 60, and fewer ranks than cores");
  } else {
    findings.ok(name, value);
  }
}

}  // namespace tokenyard::cli
