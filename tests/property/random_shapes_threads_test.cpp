// Random shapes, with ranks as threads: nothing that a call promises may differ from the reference.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/property/run_case.hpp"
#include "tests/support/number_in_environment.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumThreadShapes = 1800;

// TOKENYARD_TEST_CASE=number runs one case alone, the first of the failures that a run reports.
TEST(RandomShapes, thread_ranks_agree_with_the_reference) {
  const std::uint64_t seed = seed_of_tests();
  const auto only = static_cast<int>(number_in_environment("TOKENYARD_TEST_CASE", -1));
  const int first = std::max(only, 0);
  const int last = only >= 0 ? only : num_shapes_to_run(kNumThreadShapes) - 1;
  int num_failed = 0;
  for (int index = first; index <= last && num_failed < 3; ++index) {
    const std::string wrong = run_with_threads(make_random_case(seed, index));
    if (wrong.empty()) continue;
    ++num_failed;
    ADD_FAILURE() << "TOKENYARD_TEST_SEED=" << seed << " TOKENYARD_TEST_CASE=" << index << ":\n" << wrong;
  }
}

// The extremes that the cases have to reach, and how often at least.
TEST(RandomShapes, cover_what_is_promised) {
  struct Count {
    const char* what;
    int least;
    bool (*holds)(const Case&);
    int num_found = 0;
  };
  const auto num_tokens_of = [](const Case& a, bool (*holds)(std::int64_t)) {
    const auto& counts = a.token_sets[0].num_tokens;
    return std::any_of(counts.begin(), counts.end(), holds);
  };
  static const auto any_tokens = num_tokens_of;
  static const auto shape = [](const Case& a) -> const Shape& { return a.shapes[0]; };
  static const auto num_ids = [](const Case& a, auto holds) {
    std::int64_t count = 0;
    for (const auto& ids : a.token_sets[0].ids) count += std::count_if(ids.begin(), ids.end(), holds);
    return count;
  };
  static const auto makes = [](const Case& a, Call call) {
    return std::any_of(a.steps.begin(), a.steps.end(), [&](const Step& step) { return step.call == call; });
  };
  static const auto has_empty_rank = [](const Case& a) {
    const auto& table = a.placements[0].experts_of;
    return std::any_of(table.begin(), table.end(), [](const auto& experts) { return experts.empty(); });
  };
  static const auto quantises = [](const Case& a, ScaleFormat format) {
    return shape(a).quantization.has_value() && shape(a).quantization->format == format;
  };
  static const auto most_begun = [](const Case& a) {
    int num_begun = 0;
    int most = 0;
    for (const Step& step : a.steps) {
      if (step.pending >= 0) num_begun += step.call == Call::kComplete ? -1 : 1;
      most = std::max(most, num_begun);
    }
    return most;
  };
  Count counts[] = {
      {"1 rank", 20, [](const Case& a) { return a.num_ranks == 1; }},
      {"8 ranks", 100, [](const Case& a) { return a.num_ranks == 8; }},
      {"64 ranks", 20, [](const Case& a) { return a.num_ranks == 64; }},
      {"more than 1,024 tokens", 100, [](const Case& a) { return any_tokens(a, [](std::int64_t n) { return n > 1024; }); }},
      {"4,096 tokens", 10, [](const Case& a) { return any_tokens(a, [](std::int64_t n) { return n == 4096; }); }},
      {"a rank without tokens", 100, [](const Case& a) { return any_tokens(a, [](std::int64_t n) { return n == 0; }); }},
      {"rows of 16 bytes", 20, [](const Case& a) { return shape(a).lanes[0].row_bytes() == 16; }},
      {"rows of 32 KiB", 20, [](const Case& a) { return shape(a).lanes[0].row_bytes() == 32768; }},
      {"a hidden size that is no multiple of 64", 100, [](const Case& a) { return shape(a).lanes[0].num_elements % 64 != 0; }},
      {"several lanes", 100, [](const Case& a) { return shape(a).lanes.size() > 1; }},
      {"top-1", 20, [](const Case& a) { return shape(a).top_k == 1; }},
      {"top-32", 20, [](const Case& a) { return shape(a).top_k == 32; }},
      {"1 expert", 5, [](const Case& a) { return shape(a).num_experts == 1; }},
      {"1,024 experts", 20, [](const Case& a) { return shape(a).num_experts == 1024; }},
      {"fewer experts than ranks", 50, [](const Case& a) { return shape(a).num_experts < a.num_ranks; }},
      {"compact", 300, [](const Case& a) { return shape(a).layout == Layout::kCompact; }},
      {"expert-contiguous", 300, [](const Case& a) { return shape(a).layout == Layout::kExpertContiguous; }},
      {"expert-padded", 300, [](const Case& a) { return shape(a).layout == Layout::kExpertPadded; }},
      {"dropping", 300, [](const Case& a) { return shape(a).overflow == Overflow::kDrop; }},
      {"growing", 150, [](const Case& a) { return shape(a).overflow == Overflow::kGrow && shape(a).recv_capacity == 1; }},
      {"a placement table", 300, [](const Case& a) { return !a.placements[0].experts_of.empty(); }},
      {"a table with an empty rank", 50, [](const Case& a) { return has_empty_rank(a); }},
      {"ids of -1", 300, [](const Case& a) { return num_ids(a, [](std::int64_t id) { return id == -1; }) > 0; }},
      {"nothing but ids of -1", 10, [](const Case& a) { return num_ids(a, [](std::int64_t id) { return id >= 0; }) == 0; }},
      {"two plans", 300, [](const Case& a) { return a.shapes.size() == 2; }},
      {"cached dispatches", 500, [](const Case& a) { return makes(a, Call::kCachedDispatch); }},
      {"combines", 500, [](const Case& a) { return makes(a, Call::kCombine); }},
      {"latency mode", 700, [](const Case& a) { return shape(a).mode == Mode::kLatency; }},
      {"quantised to float32 scales", 100, [](const Case& a) { return quantises(a, ScaleFormat::kFloat32); }},
      {"quantised to powers of two", 100, [](const Case& a) { return quantises(a, ScaleFormat::kFloat32PowerOf2); }},
      {"quantised to ue8m0 scales", 100, [](const Case& a) { return quantises(a, ScaleFormat::kUE8M0); }},
      {"quantised in latency mode", 100,
       [](const Case& a) { return shape(a).quantization.has_value() && shape(a).mode == Mode::kLatency; }},
      {"lanes by columns", 100, [](const Case& a) { return std::ranges::any_of(shape(a).lanes, &Lane::column_major); }},
      {"contributions as float8", 100, [](const Case& a) { return shape(a).combine_as_float8; }},
      {"weights given at combine", 50, [](const Case& a) { return std::ranges::any_of(a.steps, &Step::gives_weights); }},
      {"calls in halves", 500, [](const Case& a) { return makes(a, Call::kComplete); }},
      {"two calls begun at once", 50, [](const Case& a) { return most_begun(a) >= 2; }},
      {"new placements", 50, [](const Case& a) { return makes(a, Call::kPlace); }},
  };
  for (int index = 0; index < kNumThreadShapes; ++index) {
    const Case random_case = make_random_case(seed_of_tests(), index);
    for (Count& count : counts) count.num_found += count.holds(random_case) ? 1 : 0;
  }
  for (const Count& count : counts) EXPECT_GE(count.num_found, count.least) << count.what;
}

}  // namespace
}  // namespace tokenyard::test
