#include "cli/bench_check.hpp"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "cli/payload.hpp"
#include "cli/plain_quantize.hpp"
#include "cli/plain_rounding.hpp"
#include "cli/random_bits.hpp"
#include "cli/stored_rows.hpp"
#include "tokenyard/quantize.hpp"

namespace tokenyard::cli {
namespace {

enum Purpose : std::uint64_t { kTokenRow, kExpertRow };

std::uint64_t token_row_seed(const BenchSetup& setup, int source, std::int64_t token, std::size_t lane_idx) {
  return hash_bits(setup.options.seed, kTokenRow, source, token, lane_idx);
}

// What comes back from `rank` for a token; in expert layouts for the token's k-th choice, otherwise k is 0.
std::uint64_t expert_row_seed(const BenchSetup& setup, int rank, const ExpectedRow& row, int k) {
  return hash_bits(setup.options.seed, kExpertRow, rank, row.source, row.token, k);
}

bool is_compact(const BenchSetup& setup) { return setup.shape.layout == Layout::kCompact; }

PlainScale plain_scale(ScaleFormat format) {
  switch (format) {
    case ScaleFormat::kFloat32: return PlainScale::kFloat;
    case ScaleFormat::kFloat32PowerOf2: return PlainScale::kPowerOfTwo;
    case ScaleFormat::kUE8M0: return PlainScale::kExponent;
  }
  return PlainScale::kFloat;
}

// Whether the row of `lane_idx` at `position` of the tensor is what the source of `row` sent.
bool is_right_row(const BenchSetup& setup, const Delivered& delivered, const ExpectedRow& row, std::int64_t position) {
  for (std::size_t lane_idx = 0; lane_idx < setup.shape.lanes.size(); ++lane_idx) {
    const Lane& lane = setup.shape.lanes[lane_idx];
    const std::byte* rows = delivered.lanes[lane_idx];
    if (!setup.quantized.empty()) {
      const std::vector<std::byte>& sent = setup.quantized[static_cast<std::size_t>(row.source)][lane_idx];
      if (std::memcmp(rows + static_cast<std::size_t>(position) * lane.row_bytes(),
                      sent.data() + static_cast<std::size_t>(row.token) * lane.row_bytes(), lane.row_bytes()) != 0) {
        return false;
      }
      continue;
    }
    if (!is_payload(token_row_seed(setup, row.source, row.token, lane_idx), lane.dtype,
                    rows + static_cast<std::size_t>(position) * lane.row_bytes(), lane.row_bytes())) {
      return false;
    }
  }
  return true;
}

// Source, ids and weights of a received row.
bool is_right_metadata(const BenchSetup& setup, const ExpectedRank& expected, const Delivered& delivered, std::size_t row_idx) {
  const ExpectedRow& row = expected.rows[row_idx];
  const auto top_k = static_cast<std::size_t>(setup.shape.top_k);
  if (delivered.source_token[row_idx] != row.token) return false;
  const std::int64_t* offsets = delivered.source_offsets;
  const auto position = static_cast<std::int64_t>(row_idx);
  if (position < offsets[row.source] || position >= offsets[row.source + 1]) return false;

  const std::int32_t* local_experts = delivered.topk_idx + row_idx * top_k;
  const float* weights = delivered.topk_weights + row_idx * top_k;
  const float* sent_weights = setup.routing.weights(row.source, row.token);
  std::vector<std::int32_t> wanted(top_k, -1);
  for (int i = 0; i < row.num_pairs; ++i) {
    const ExpectedPair& pair = expected.pairs[static_cast<std::size_t>(row.first_pair + i)];
    wanted[static_cast<std::size_t>(pair.k)] = pair.local_expert;
    if (weights[pair.k] != sent_weights[pair.k]) return false;
  }
  return std::equal(wanted.begin(), wanted.end(), local_experts);
}

std::int64_t count_dirty_gaps(const BenchSetup& setup, const ExpectedRank& expected, const Delivered& delivered) {
  std::int64_t num_dirty = 0;
  for (std::size_t expert = 0; expert < expected.expert_counts.size(); ++expert) {
    const std::int64_t first = expected.expert_offsets[expert] + expected.expert_counts[expert];
    for (std::int64_t position = first; position < expected.expert_offsets[expert + 1]; ++position) {
      bool is_zero = true;
      for (std::size_t lane_idx = 0; lane_idx < setup.shape.lanes.size(); ++lane_idx) {
        const std::size_t num_bytes = setup.shape.lanes[lane_idx].row_bytes();
        const std::byte* gap = delivered.lanes[lane_idx] + static_cast<std::size_t>(position) * num_bytes;
        is_zero = is_zero && std::all_of(gap, gap + num_bytes, [](std::byte byte) { return byte == std::byte{0}; });
      }
      num_dirty += is_zero ? 0 : 1;
    }
  }
  return num_dirty;
}

// Sums run in float32, or in float64 for float64 rows.
template <class Sum>
void add_payload(const BenchSetup& setup, std::uint64_t row_seed, const Sum* factor, std::vector<std::byte>& stored,
                 std::vector<Sum>& values, std::vector<Sum>& sums) {
  const Lane& lane = *setup.shape.combine;
  write_payload(row_seed, lane.dtype, stored.data(), lane.row_bytes());
  if constexpr (std::is_same_v<Sum, double>) {
    std::memcpy(values.data(), stored.data(), lane.row_bytes());
  } else {
    load_values(stored.data(), lane.dtype, lane.num_elements, values.data());
  }
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += factor == nullptr ? values[i] : values[i] * *factor;
}

template <class Sum>
void round_values(DataType dtype, std::vector<Sum>& values) {
  if constexpr (std::is_same_v<Sum, float>) {
    if (dtype != DataType::kFloat16 && dtype != DataType::kBFloat16) return;
    const FloatFormat format = dtype == DataType::kFloat16 ? kFloat16Format : kBFloat16Format;
    for (float& value : values) value = round_to(value, format);
  }
}

template <class Sum>
std::int64_t count_wrong_sums(const BenchSetup& setup, int rank, const std::byte* output, Returned returned) {
  const Lane& lane = *setup.shape.combine;
  const auto num_elements = static_cast<std::size_t>(lane.num_elements);
  std::vector<std::byte> stored(lane.row_bytes());
  std::vector<Sum> values(num_elements);
  std::vector<Sum> contribution(num_elements);
  std::vector<Sum> sums(num_elements);
  // Where each rank's rows for this source begin; they stand in token order.
  std::vector<std::size_t> next_row;
  for (const ExpectedRank& expected : setup.expected) {
    const auto first =
        std::find_if(expected.rows.begin(), expected.rows.end(), [rank](const ExpectedRow& row) { return row.source == rank; });
    next_row.push_back(static_cast<std::size_t>(first - expected.rows.begin()));
  }
  std::int64_t num_wrong = 0;
  for (std::int64_t token = 0; token < setup.num_tokens; ++token) {
    std::fill(sums.begin(), sums.end(), Sum{0});
    for (int destination = 0; destination < setup.num_ranks; ++destination) {
      const ExpectedRank& expected = setup.expected[static_cast<std::size_t>(destination)];
      std::size_t& row_idx = next_row[static_cast<std::size_t>(destination)];
      if (row_idx >= expected.rows.size() || expected.rows[row_idx].source != rank || expected.rows[row_idx].token != token)
        continue;
      const ExpectedRow& row = expected.rows[row_idx++];
      if (is_compact(setup)) {
        const std::uint64_t row_seed = returned == Returned::kExpertRows ? expert_row_seed(setup, destination, row, 0)
                                                                         : token_row_seed(setup, rank, token, 0);
        add_payload<Sum>(setup, row_seed, nullptr, stored, values, sums);
        continue;
      }
      std::fill(contribution.begin(), contribution.end(), Sum{0});
      for (int i = 0; i < row.num_pairs; ++i) {
        const ExpectedPair& pair = expected.pairs[static_cast<std::size_t>(row.first_pair + i)];
        if (pair.position < 0) continue;
        const Sum factor = setup.routing.weights(rank, token)[pair.k];
        add_payload<Sum>(setup, expert_row_seed(setup, destination, row, pair.k), &factor, stored, values, contribution);
      }
      round_values(lane.dtype, contribution);
      for (std::size_t i = 0; i < num_elements; ++i) sums[i] += contribution[i];
    }
    round_values(lane.dtype, sums);
    const std::byte* result = output + static_cast<std::size_t>(token) * lane.row_bytes();
    if constexpr (std::is_same_v<Sum, double>) {
      std::memcpy(values.data(), result, lane.row_bytes());
    } else {
      load_values(result, lane.dtype, lane.num_elements, values.data());
    }
    num_wrong += values == sums ? 0 : 1;
  }
  return num_wrong;
}

}  // namespace

void write_token_row(const BenchSetup& setup, int source, std::int64_t token, std::size_t lane_idx, std::byte* row) {
  const Lane& lane = setup.given_lanes[lane_idx];
  write_payload(token_row_seed(setup, source, token, lane_idx), lane.dtype, row, lane.row_bytes());
}

std::vector<std::vector<std::vector<std::byte>>> expect_quantized(const BenchSetup& setup) {
  const Lane& given = setup.given_lanes[0];
  const std::vector<Lane>& lanes = setup.shape.lanes;
  std::vector<std::byte> stored(given.row_bytes());
  std::vector<float> values(static_cast<std::size_t>(given.num_elements));
  std::vector<std::vector<std::vector<std::byte>>> rows(static_cast<std::size_t>(setup.num_ranks));
  for (int source = 0; source < setup.num_ranks; ++source) {
    std::vector<std::vector<std::byte>>& sent = rows[static_cast<std::size_t>(source)];
    for (const Lane& lane : lanes) sent.emplace_back(static_cast<std::size_t>(setup.num_tokens) * lane.row_bytes());
    for (std::int64_t token = 0; token < setup.num_tokens; ++token) {
      write_token_row(setup, source, token, 0, stored.data());
      load_values(stored.data(), given.dtype, given.num_elements, values.data());
      const auto row = static_cast<std::size_t>(token);
      plain_quantize(values, plain_scale(setup.shape.quantization->format), sent[0].data() + row * lanes[0].row_bytes(),
                     sent[1].data() + row * lanes[1].row_bytes());
    }
  }
  return rows;
}

void write_expert_rows(const BenchSetup& setup, int rank, std::byte* rows) {
  const Lane& lane = *setup.shape.combine;
  const ExpectedRank& expected = setup.expected[static_cast<std::size_t>(rank)];
  for (std::size_t row_idx = 0; row_idx < expected.rows.size(); ++row_idx) {
    const ExpectedRow& row = expected.rows[row_idx];
    if (is_compact(setup)) {
      write_payload(expert_row_seed(setup, rank, row, 0), lane.dtype, rows + row_idx * lane.row_bytes(), lane.row_bytes());
      continue;
    }
    for (int i = 0; i < row.num_pairs; ++i) {
      const ExpectedPair& pair = expected.pairs[static_cast<std::size_t>(row.first_pair + i)];
      if (pair.position < 0) continue;
      write_payload(expert_row_seed(setup, rank, row, pair.k), lane.dtype,
                    rows + static_cast<std::size_t>(pair.position) * lane.row_bytes(), lane.row_bytes());
    }
  }
}

Delivered delivered_by(const Received& received, int num_lanes) {
  const Routing& routing = received.routing();
  Delivered delivered{.num_recv_rows = routing.num_recv_rows(),
                      .num_expanded_rows = routing.num_expanded_rows(),
                      .lanes = {},
                      .topk_idx = static_cast<const std::int32_t*>(routing.topk_idx().data),
                      .topk_weights = static_cast<const float*>(routing.topk_weights().data),
                      .source_token = static_cast<const std::int32_t*>(routing.source_token().data),
                      .source_offsets = static_cast<const std::int64_t*>(routing.source_offsets().data)};
  for (int lane_idx = 0; lane_idx < num_lanes; ++lane_idx) {
    delivered.lanes.push_back(static_cast<const std::byte*>(received.lane(lane_idx).data));
  }
  return delivered;
}

std::int64_t count_wrong_received(const BenchSetup& setup, int rank, const Delivered& delivered) {
  const ExpectedRank& expected = setup.expected[static_cast<std::size_t>(rank)];
  const auto num_expected = static_cast<std::int64_t>(expected.rows.size());
  if (delivered.num_recv_rows != num_expected || delivered.num_expanded_rows != expected.num_expanded_rows) {
    return std::max<std::int64_t>({num_expected, delivered.num_recv_rows, 1});
  }
  std::int64_t num_wrong = 0;
  for (std::size_t row_idx = 0; row_idx < expected.rows.size(); ++row_idx) {
    const ExpectedRow& row = expected.rows[row_idx];
    bool is_right = is_right_metadata(setup, expected, delivered, row_idx);
    if (is_compact(setup)) is_right = is_right && is_right_row(setup, delivered, row, static_cast<std::int64_t>(row_idx));
    for (int i = 0; i < row.num_pairs && !is_compact(setup); ++i) {
      const std::int64_t position = expected.pairs[static_cast<std::size_t>(row.first_pair + i)].position;
      is_right = is_right && (position < 0 || is_right_row(setup, delivered, row, position));
    }
    num_wrong += is_right ? 0 : 1;
  }
  if (setup.shape.layout == Layout::kExpertContiguous) num_wrong += count_dirty_gaps(setup, expected, delivered);
  return num_wrong;
}

std::int64_t count_wrong_combined(const BenchSetup& setup, int rank, const std::byte* output, Returned returned) {
  return setup.shape.combine->dtype == DataType::kFloat64 ? count_wrong_sums<double>(setup, rank, output, returned)
                                                          : count_wrong_sums<float>(setup, rank, output, returned);
}

}  // namespace tokenyard::cli
