// collect_rows and index_expanded: from a dispatch window's metadata to what a Routing tells.

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cuda/group_by_expert.hpp"
#include "kernels/cuda/index_rows.hpp"
#include "kernels/host/group_by_expert.hpp"
#include "tests/kernels/cuda/gpu_ranks.hpp"
#include "tests/kernels/cuda/seeds.hpp"
#include "tests/support/random_bits.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumGuards = 8;  // elements behind every output, which must stay as they are

template <class T>
T poison() {
  T value;
  std::memset(&value, 0x5a, sizeof(value));
  return value;
}

// `contents`, and room up to `num_elements`.
template <class T>
std::vector<T> padded(std::vector<T> contents, std::int64_t num_elements, T filler) {
  contents.resize(num_elements, filler);
  return contents;
}

template <class T>
DeviceArray<T> poisoned(std::int64_t num_elements) {
  return DeviceArray<T>(std::vector<T>(num_elements + kNumGuards, poison<T>()));
}

template <class T>
void expect_contents(const char* what, const DeviceArray<T>& array, std::vector<T> expected) {
  expected.resize(expected.size() + kNumGuards, poison<T>());
  const std::vector<T> contents = array.contents();
  ASSERT_EQ(contents.size(), expected.size()) << what;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    ASSERT_EQ(std::memcmp(&contents[i], &expected[i], sizeof(T)), 0)
        << what << "[" << i << "] of " << expected.size() - kNumGuards << " is " << contents[i] << " instead of "
        << expected[i];
  }
}

// What a dispatch window and the announcements hold; a received row need not come from a real routing.
struct ReceivedCase {
  int num_ranks = 1;
  int top_k = 1;
  int num_local_experts = 1;
  int max_local_experts = 1;
  std::int64_t num_rows = 0;
  std::int64_t num_view_rows = 0;
  bool has_weights = false;
  std::vector<std::int64_t> source_offsets;
  std::vector<std::int32_t> topk_idx, source_token, ordinal, announced_counts;
  std::vector<float> topk_weights;
};

ReceivedCase draw_case(RandomBits& random, std::int64_t max_rows, bool with_foreign_ids) {
  ReceivedCase drawn;
  drawn.num_ranks = static_cast<int>(random.any_magnitude(1, 70));
  drawn.top_k = static_cast<int>(random.from(1, 12));
  drawn.num_local_experts = random.one_in(12) ? 0 : static_cast<int>(random.any_magnitude(1, 4'096));
  drawn.max_local_experts = drawn.num_local_experts + static_cast<int>(random.from(0, 3));
  drawn.num_rows = random.one_in(8) ? 0 : random.any_magnitude(1, max_rows);
  drawn.num_view_rows = drawn.num_rows + (random.one_in(2) ? 0 : random.any_magnitude(1, 3'000));
  drawn.has_weights = random.one_in(2);
  for (int rank = 0; rank < drawn.num_ranks; ++rank) drawn.source_offsets.push_back(random.from(0, drawn.num_rows));
  drawn.source_offsets[0] = 0;
  std::sort(drawn.source_offsets.begin(), drawn.source_offsets.end());
  drawn.source_offsets.push_back(drawn.num_rows);
  const bool few_experts = random.one_in(4);
  for (std::int64_t pair = 0; pair < drawn.num_rows * drawn.top_k; ++pair) {
    const int most = few_experts ? std::min(2, drawn.num_local_experts) : drawn.num_local_experts;
    auto expert = static_cast<std::int32_t>(random.from(-1, most - 1));
    if (with_foreign_ids && random.one_in(5)) {
      expert = random.pick({drawn.num_local_experts, std::numeric_limits<std::int32_t>::max(),
                            std::numeric_limits<std::int32_t>::min(), -2, 1 << 20});
    }
    drawn.topk_idx.push_back(expert);
    const auto bits = static_cast<std::uint32_t>(random.next());  // NaNs among them
    drawn.topk_weights.push_back(std::bit_cast<float>(bits));
  }
  for (std::int64_t row = 0; row < drawn.num_rows; ++row) {
    drawn.source_token.push_back(static_cast<std::int32_t>(random.from(0, 100'000)));
    drawn.ordinal.push_back(static_cast<std::int32_t>(random.from(0, 31)));
  }
  for (int i = 0; i < drawn.num_ranks * drawn.max_local_experts; ++i) {
    drawn.announced_counts.push_back(static_cast<std::int32_t>(random.from(0, 10'000)));
  }
  return drawn;
}

// The ids as a Routing has them.
std::vector<std::int32_t> local_ids(const ReceivedCase& received) {
  std::vector<std::int32_t> ids = received.topk_idx;
  for (std::int32_t& id : ids) {
    if (id < 0 || id >= received.num_local_experts) id = -1;
  }
  return ids;
}

std::vector<std::int64_t> dropped(const ReceivedCase& received, const std::vector<std::int64_t>& expert_counts) {
  std::vector<std::int64_t> dropped(received.num_local_experts);
  for (int expert = 0; expert < received.num_local_experts; ++expert) {
    for (int source = 0; source < received.num_ranks; ++source) {
      dropped[expert] += received.announced_counts[source * received.max_local_experts + expert];
    }
    dropped[expert] -= expert_counts[expert];
  }
  return dropped;
}

// The window's arrays, at addresses that need not be multiples of 16 bytes, and a Routing's.
struct OnDevice {
  DeviceArray<std::int64_t> source_offsets;
  DeviceArray<std::int32_t> received_topk_idx, received_source_token, received_ordinal, announced_counts;
  DeviceArray<float> received_topk_weights;
  DeviceArray<std::int32_t> topk_idx, source_token, ordinal, workspace;
  DeviceArray<float> topk_weights;
  DeviceArray<std::int64_t> expert_counts, expert_dropped;
  std::int64_t shift = 0;  // of the window's arrays, in elements

  OnDevice(const ReceivedCase& received, int num_sms, std::int64_t num_shifted) : shift(num_shifted) {
    const auto shifted = [num_shifted](auto contents) {
      contents.insert(contents.begin(), num_shifted, poison<typename decltype(contents)::value_type>());
      return DeviceArray(contents);
    };
    const std::int64_t num_view_pairs = received.num_view_rows * received.top_k;
    source_offsets = DeviceArray<std::int64_t>(received.source_offsets);
    received_topk_idx = shifted(received.topk_idx);
    received_source_token = shifted(received.source_token);
    received_ordinal = shifted(received.ordinal);
    received_topk_weights = shifted(received.topk_weights);
    announced_counts = DeviceArray<std::int32_t>(received.announced_counts);
    topk_idx = poisoned<std::int32_t>(num_view_pairs);
    source_token = poisoned<std::int32_t>(received.num_view_rows);
    ordinal = poisoned<std::int32_t>(received.num_view_rows);
    topk_weights = poisoned<float>(num_view_pairs);
    workspace = poisoned<std::int32_t>(static_cast<std::int64_t>(num_sms) * received.num_local_experts);
    expert_counts = poisoned<std::int64_t>(received.num_local_experts);
    expert_dropped = poisoned<std::int64_t>(received.num_local_experts);
  }

  cuda::CollectRowsArgs args(const ReceivedCase& received) const {
    return {.top_k = received.top_k,
            .num_local_experts = received.num_local_experts,
            .num_ranks = received.num_ranks,
            .source_offsets = source_offsets.data(),
            .received_topk_idx = received_topk_idx.data() + shift,
            .received_topk_weights = received.has_weights ? received_topk_weights.data() + shift : nullptr,
            .received_source_token = received_source_token.data() + shift,
            .received_ordinal = received_ordinal.data() + shift,
            .num_view_rows = received.num_view_rows,
            .topk_idx = topk_idx.data(),
            .topk_weights = received.has_weights ? topk_weights.data() : nullptr,
            .source_token = source_token.data(),
            .ordinal = ordinal.data()};
  }

  void expect_rows(const ReceivedCase& received) const {
    const std::int64_t num_view_pairs = received.num_view_rows * received.top_k;
    expect_contents("topk_idx", topk_idx, padded(local_ids(received), num_view_pairs, -1));
    expect_contents("source_token", source_token, padded(received.source_token, received.num_view_rows, -1));
    expect_contents("ordinal", ordinal, padded(received.ordinal, received.num_view_rows, -1));
    expect_contents("topk_weights", topk_weights,
                    received.has_weights ? padded(received.topk_weights, num_view_pairs, 0.0F)
                                         : std::vector<float>(num_view_pairs, poison<float>()));
  }
};

std::string text_of(const ReceivedCase& received) {
  return "rows " + std::to_string(received.num_rows) + " of " + std::to_string(received.num_view_rows) + ", top-k " +
         std::to_string(received.top_k) + ", local experts " + std::to_string(received.num_local_experts) + ", ranks " +
         std::to_string(received.num_ranks) + ", weights " + std::to_string(static_cast<int>(received.has_weights));
}

// Twice with the same state, as successive calls do.
void collect_and_count(const ReceivedCase& received, int num_sms, std::int64_t shift) {
  SCOPED_TRACE(text_of(received) + ", SMs " + std::to_string(num_sms));
  const GpuRanks gpus(1, 1);
  const OnDevice device(received, num_sms, shift);
  cuda::CollectRowsArgs args = device.args(received);
  args.announced_counts = device.announced_counts.data();
  args.max_local_experts = received.max_local_experts;
  args.expert_counts = device.expert_counts.data();
  args.expert_dropped = device.expert_dropped.data();
  args.workspace = device.workspace.data();
  args.state = gpus.state(0);
  const cuda::Launch launch{.stream = gpus.stream(0), .num_sms = num_sms};
  cuda::collect_rows(args, launch);
  cuda::collect_rows(args, launch);
  gpus.finish();
  device.expect_rows(received);
  std::vector<std::int64_t> expert_counts(received.num_local_experts);
  for (const std::int32_t id : local_ids(received)) {
    if (id >= 0) ++expert_counts[id];
  }
  expect_contents("expert_counts", device.expert_counts, expert_counts);
  expect_contents("expert_dropped", device.expert_dropped, dropped(received, expert_counts));
  const std::vector<std::int32_t> workspace = device.workspace.contents();
  for (int i = 1; i <= kNumGuards; ++i) ASSERT_EQ(workspace[workspace.size() - i], poison<std::int32_t>());
}

// The same where all that was announced has come: with nothing that counting needs.
void collect_announced(ReceivedCase received, int num_sms, std::int64_t shift) {
  received.num_view_rows = received.num_rows;
  SCOPED_TRACE(text_of(received) + ", SMs " + std::to_string(num_sms));
  const GpuRanks gpus(1, 1);
  const OnDevice device(received, num_sms, shift);
  cuda::CollectRowsArgs args = device.args(received);
  args.all_arrive = true;
  args.source_offsets = nullptr;
  args.announced_counts = device.announced_counts.data();
  args.max_local_experts = received.max_local_experts;
  args.expert_counts = device.expert_counts.data();
  args.expert_dropped = device.expert_dropped.data();
  cuda::collect_rows(args, {.stream = gpus.stream(0), .num_sms = num_sms});
  gpus.finish();
  device.expect_rows(received);
  const std::vector<std::int64_t> nothing(received.num_local_experts);
  expect_contents("expert_counts", device.expert_counts, dropped(received, nothing));
  expect_contents("expert_dropped", device.expert_dropped, nothing);
}

struct LayoutOfExperts {
  Layout layout = Layout::kExpertContiguous;
  int alignment = 1;
  std::int64_t capacity = 0;
};

// What the host's engine makes of the rows; V and V' rows.
struct Expanded {
  std::vector<std::int64_t> expert_counts, expert_offsets, expanded_row, expert_source_offsets;
  std::vector<std::int32_t> gather_idx, source_token;
  std::vector<float> weights;
};

Expanded expand_on_host(const ReceivedCase& received, const LayoutOfExperts& layout) {
  Expanded expanded;
  const std::vector<std::int32_t> ids = local_ids(received);
  expanded.expert_counts.resize(received.num_local_experts);
  expanded.expert_offsets.resize(received.num_local_experts + 1);
  expanded.expanded_row.assign(received.num_view_rows * received.top_k, -1);
  expanded.expert_source_offsets.resize(received.num_local_experts * (received.num_ranks + 1));
  host::group_by_expert({.layout = layout.layout,
                         .alignment = layout.alignment,
                         .capacity = layout.capacity,
                         .num_local_experts = received.num_local_experts,
                         .num_rows = received.num_rows,
                         .top_k = received.top_k,
                         .topk_idx = ids.data(),
                         .num_ranks = received.num_ranks,
                         .source_offsets = received.source_offsets.data(),
                         .expert_counts = expanded.expert_counts.data(),
                         .expert_offsets = expanded.expert_offsets.data(),
                         .expanded_row = expanded.expanded_row.data(),
                         .expert_source_offsets = expanded.expert_source_offsets.data()});
  return expanded;
}

void fill_expanded(const ReceivedCase& received, std::int64_t num_expanded_view_rows, Expanded* expanded) {
  expanded->gather_idx.assign(num_expanded_view_rows, -1);
  expanded->source_token.assign(num_expanded_view_rows, -1);
  expanded->weights.assign(num_expanded_view_rows, 0.0F);
  for (std::int64_t pair = 0; pair < received.num_rows * received.top_k; ++pair) {
    std::int64_t& place = expanded->expanded_row[pair];
    if (place >= num_expanded_view_rows) place = -1;
    if (place < 0) continue;
    expanded->gather_idx[place] = static_cast<std::int32_t>(pair / received.top_k);
    expanded->source_token[place] = received.source_token[pair / received.top_k];
    expanded->weights[place] = received.topk_weights[pair];
  }
}

// From the window over group_by_expert to the expanded rows. `too_few_rows`: more rows have come than were announced, so that
// the tensors hold fewer than there are.
void collect_and_expand(RandomBits& random, const ReceivedCase& received, int num_sms, bool too_few_rows) {
  LayoutOfExperts layout{.alignment = random.pick({1, 4, 16, 128})};
  if (random.one_in(2)) layout = {.layout = Layout::kExpertPadded, .capacity = random.any_magnitude(1, 200)};
  SCOPED_TRACE(text_of(received) + ", SMs " + std::to_string(num_sms) + ", layout " + to_string(layout.layout));
  Expanded expected = expand_on_host(received, layout);
  std::int64_t num_expanded_view_rows = expected.expert_offsets.back() + (random.one_in(2) ? 0 : random.from(1, 5'000));
  if (too_few_rows) num_expanded_view_rows = expected.expert_offsets.back() / 2;
  fill_expanded(received, num_expanded_view_rows, &expected);

  const GpuRanks gpus(1, 1);
  const OnDevice device(received, num_sms, random.from(0, 3));
  const auto expert_offsets = poisoned<std::int64_t>(received.num_local_experts + 1);
  const auto expanded_row = poisoned<std::int64_t>(received.num_view_rows * received.top_k);
  const auto expert_source_offsets = poisoned<std::int64_t>(received.num_local_experts * (received.num_ranks + 1));
  const auto gather_idx = poisoned<std::int32_t>(num_expanded_view_rows);
  const auto expanded_source_token = poisoned<std::int32_t>(num_expanded_view_rows);
  const auto expanded_weights = poisoned<float>(num_expanded_view_rows);
  const cuda::Launch launch{.stream = gpus.stream(0), .num_sms = num_sms};
  cuda::collect_rows(device.args(received), launch);
  cuda::group_by_expert({.layout = layout.layout,
                         .alignment = layout.alignment,
                         .capacity = layout.capacity,
                         .num_local_experts = received.num_local_experts,
                         .top_k = received.top_k,
                         .topk_idx = device.topk_idx.data(),
                         .num_ranks = received.num_ranks,
                         .source_offsets = device.source_offsets.data(),
                         .expert_counts = device.expert_counts.data(),
                         .expert_offsets = expert_offsets.data(),
                         .expanded_row = expanded_row.data(),
                         .expert_source_offsets = expert_source_offsets.data(),
                         .workspace = device.workspace.data()},
                        launch);
  cuda::index_expanded({.top_k = received.top_k,
                        .num_local_experts = received.num_local_experts,
                        .num_ranks = received.num_ranks,
                        .source_offsets = device.source_offsets.data(),
                        .source_token = device.source_token.data(),
                        .topk_weights = received.has_weights ? device.topk_weights.data() : nullptr,
                        .expert_counts = device.expert_counts.data(),
                        .expert_offsets = expert_offsets.data(),
                        .announced_counts = device.announced_counts.data(),
                        .max_local_experts = received.max_local_experts,
                        .expert_dropped = device.expert_dropped.data(),
                        .num_view_rows = received.num_view_rows,
                        .expanded_row = expanded_row.data(),
                        .num_expanded_view_rows = num_expanded_view_rows,
                        .gather_idx = gather_idx.data(),
                        .expanded_source_token = expanded_source_token.data(),
                        .expanded_weights = received.has_weights ? expanded_weights.data() : nullptr},
                       launch);
  gpus.finish();
  device.expect_rows(received);
  expect_contents("expert_counts", device.expert_counts, expected.expert_counts);
  expect_contents("expert_dropped", device.expert_dropped, dropped(received, expected.expert_counts));
  expect_contents("expert_offsets", expert_offsets, expected.expert_offsets);
  expect_contents("expanded_row", expanded_row, expected.expanded_row);
  expect_contents("expert_source_offsets", expert_source_offsets, expected.expert_source_offsets);
  expect_contents("gather_idx", gather_idx, expected.gather_idx);
  expect_contents("expanded_source_token", expanded_source_token, expected.source_token);
  if (!received.has_weights) expected.weights.assign(num_expanded_view_rows, poison<float>());
  expect_contents("expanded_weights", expanded_weights, expected.weights);
}

TEST(cuda_index_rows, rows_are_copied_out_and_the_rest_of_the_view_is_filled) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(100)) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomBits random(seed);
    const ReceivedCase received = draw_case(random, 3'000, random.one_in(2));
    collect_and_count(received, static_cast<int>(random.from(1, 132)), random.from(0, 3));
    collect_announced(received, static_cast<int>(random.from(1, 132)), random.from(0, 3));
    if (HasFatalFailure()) return;
  }
}

TEST(cuda_index_rows, thousands_of_experts_are_counted_and_sorted_by) {
  SKIP_WITHOUT_GPUS(1);
  RandomBits random(7);
  ReceivedCase received = draw_case(random, 20'000, true);
  received.num_local_experts = 4'096;
  received.max_local_experts = 4'096;
  received.announced_counts.assign(static_cast<std::size_t>(received.num_ranks) * 4'096, 3);
  for (std::int32_t& id : received.topk_idx) id = static_cast<std::int32_t>(random.from(-1, 4'099));
  collect_and_count(received, 132, 0);
  collect_and_count(received, 1, 0);
  collect_and_expand(random, received, 132, false);
  collect_and_expand(random, received, 1, false);
}

TEST(cuda_index_rows, expanded_rows_are_what_the_hosts_engine_makes_of_them) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(100)) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomBits random(seed);
    const ReceivedCase received = draw_case(random, 3'000, random.one_in(3));
    collect_and_expand(random, received, static_cast<int>(random.from(1, 132)), false);
    if (HasFatalFailure()) return;
  }
}

TEST(cuda_index_rows, rows_beyond_the_expanded_tensors_are_left_out) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(20)) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    RandomBits random(seed);
    const ReceivedCase received = draw_case(random, 3'000, false);
    collect_and_expand(random, received, static_cast<int>(random.from(1, 132)), true);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace tokenyard::test
