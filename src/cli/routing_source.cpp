#include "cli/routing_source.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "base/fail.hpp"
#include "cli/npy.hpp"
#include "cli/random_bits.hpp"
#include "cli/usage_error.hpp"

namespace tokenyard::cli {
namespace {

enum Purpose : std::uint64_t { kWeight, kDraw, kPopularity, kGroup };

constexpr const char* kSyntax = "expected uniform, zipf:S (S >= 0), grouped:G/K (1 <= K <= G) or the path of a .npy file";

// Whether the whole text is a number.
template <class Number>
bool parse_number(std::string_view text, Number& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && end == text.data() + text.size();
}

// Moves `num_wanted` elements, drawn uniformly without replacement, to the front of `pool`.
void draw_to_front(std::span<std::int64_t> pool, std::size_t num_wanted, std::uint64_t draw_seed) {
  for (std::size_t i = 0; i < num_wanted; ++i) {
    const std::uint64_t offset = below(hash_bits(draw_seed, i), pool.size() - i);
    std::swap(pool[i], pool[i + offset]);
  }
}

std::vector<std::int64_t> all_numbers_below(int bound) {
  std::vector<std::int64_t> numbers(static_cast<std::size_t>(bound));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// Calls choose(draw_seed, ids) for every token: ids are the token's to fill.
template <class Choose>
void for_each_token(RoutingChoice& choice, const Choose& choose) {
  const auto top_k = static_cast<std::size_t>(choice.shape.top_k);
  for (std::size_t token = 0; token * top_k < choice.topk_idx.size(); ++token) {
    choose(hash_bits(choice.shape.seed, kDraw, token), std::span(choice.topk_idx).subspan(token * top_k, top_k));
  }
}

void choose_uniform(RoutingChoice& choice) {
  std::vector<std::int64_t> experts = all_numbers_below(choice.shape.num_experts);
  for_each_token(choice, [&](std::uint64_t draw_seed, std::span<std::int64_t> ids) {
    draw_to_front(experts, ids.size(), draw_seed);
    std::copy_n(experts.begin(), ids.size(), ids.begin());
  });
}

// Weighted draws without replacement by exponential races (Efraimidis and Spirakis, 2006): the experts that arrive first, where
// expert e arrives after an exponentially distributed time of rate weight(e).
void choose_zipf(RoutingChoice& choice, double exponent) {
  const int num_experts = choice.shape.num_experts;
  std::vector<std::int64_t> by_popularity = all_numbers_below(num_experts);
  draw_to_front(by_popularity, by_popularity.size(), hash_bits(choice.shape.seed, kPopularity));
  std::vector<double> mean_time(static_cast<std::size_t>(num_experts));
  for (std::size_t place = 0; place < by_popularity.size(); ++place) {
    mean_time[static_cast<std::size_t>(by_popularity[place])] = std::pow(static_cast<double>(place + 1), exponent);
  }
  std::vector<std::pair<double, std::int64_t>> arrivals(mean_time.size());
  for_each_token(choice, [&](std::uint64_t draw_seed, std::span<std::int64_t> ids) {
    for (std::size_t expert = 0; expert < arrivals.size(); ++expert) {
      arrivals[expert] = {-std::log(open_unit(hash_bits(draw_seed, expert))) * mean_time[expert],
                          static_cast<std::int64_t>(expert)};
    }
    std::partial_sort(arrivals.begin(), arrivals.begin() + static_cast<std::ptrdiff_t>(ids.size()), arrivals.end());
    for (std::size_t k = 0; k < ids.size(); ++k) ids[k] = arrivals[k].second;
  });
}

void choose_grouped(RoutingChoice& choice, int num_groups, int top_groups) {
  const int group_size = choice.shape.num_experts / num_groups;
  std::vector<std::int64_t> groups = all_numbers_below(num_groups);
  std::vector<std::int64_t> experts(static_cast<std::size_t>(group_size * top_groups));
  for_each_token(choice, [&](std::uint64_t draw_seed, std::span<std::int64_t> ids) {
    draw_to_front(groups, static_cast<std::size_t>(top_groups), hash_bits(draw_seed, kGroup));
    for (std::size_t i = 0; i < experts.size(); ++i) {
      experts[i] = groups[i / static_cast<std::size_t>(group_size)] * group_size + static_cast<std::int64_t>(i) % group_size;
    }
    draw_to_front(experts, ids.size(), draw_seed);
    std::copy_n(experts.begin(), ids.size(), ids.begin());
  });
}

void choose_from_file(RoutingChoice& choice, const std::string& path) {
  const NpyArray file = read_npy(path);
  const RoutingShape& shape = choice.shape;
  if (file.dtype == DataType::kFloat32) fail_argument("\"{}\" holds float32 numbers; expert ids must be int32 or int64", path);
  if (file.num_columns != shape.top_k) {
    fail_argument("\"{}\" has {} ids per token but top-k is {}: pass --top-k {}", path, file.num_columns, shape.top_k,
                  file.num_columns);
  }
  if (file.num_rows == 0 && !choice.topk_idx.empty()) fail_argument("\"{}\" has no rows, so no token has an expert", path);
  for (std::int64_t row = 0; row < file.num_rows; ++row) {
    for (std::int64_t k = 0; k < file.num_columns; ++k) {
      const std::int64_t id = file.integer(row, k);
      if (id < -1 || id >= shape.num_experts) {
        fail_argument("\"{}\" row {} column {} holds the expert id {}; ids must lie in [0, {}) or be -1 for none", path, row, k,
                      id, shape.num_experts);
      }
    }
  }
  for (std::size_t i = 0; i < choice.topk_idx.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i) / shape.top_k % file.num_rows;
    choice.topk_idx[i] = file.integer(row, static_cast<std::int64_t>(i) % shape.top_k);
  }
}

}  // namespace

RoutingChoice make_routing(const std::string& source, const RoutingShape& shape) {
  RoutingChoice choice{.shape = shape, .topk_idx = {}, .topk_weights = {}};
  const auto num_ids = static_cast<std::size_t>(shape.num_ranks * shape.num_tokens * shape.top_k);
  choice.topk_idx.resize(num_ids);
  choice.topk_weights.resize(num_ids);
  for (std::size_t i = 0; i < num_ids; ++i) {
    choice.topk_weights[i] = 0.0625F + 0.9375F * unit_float(hash_bits(shape.seed, kWeight, i));
  }

  if (source.ends_with(".npy")) {
    choose_from_file(choice, source);
    return choice;
  }
  if (shape.top_k > shape.num_experts) {
    throw UsageError(
        fmt::format("--routing {}: {} different experts per token are wanted (--top-k), but there are only {} (--experts)",
                    source, shape.top_k, shape.num_experts));
  }
  const std::string_view text = source;
  if (text == "uniform") {
    choose_uniform(choice);
    return choice;
  }
  if (text.starts_with("zipf:")) {
    double exponent = 0;
    if (!parse_number(text.substr(5), exponent) || !(exponent >= 0 && exponent <= 100)) {
      throw UsageError(fmt::format("--routing {}: {}", source, kSyntax));
    }
    choose_zipf(choice, exponent);
    return choice;
  }
  if (text.starts_with("grouped:")) {
    const std::string_view numbers = text.substr(8);
    const std::size_t slash = numbers.find('/');
    int num_groups = 0;
    int top_groups = 0;
    if (slash == std::string_view::npos || !parse_number(numbers.substr(0, slash), num_groups) ||
        !parse_number(numbers.substr(slash + 1), top_groups) || top_groups < 1 || top_groups > num_groups) {
      throw UsageError(fmt::format("--routing {}: {}", source, kSyntax));
    }
    if (shape.num_experts % num_groups != 0) {
      throw UsageError(
          fmt::format("--routing {}: {} experts do not make {} equal groups", source, shape.num_experts, num_groups));
    }
    if (shape.num_experts / num_groups * top_groups < shape.top_k) {
      throw UsageError(fmt::format("--routing {}: {} groups hold {} experts, fewer than the {} of --top-k", source, top_groups,
                                   shape.num_experts / num_groups * top_groups, shape.top_k));
    }
    choose_grouped(choice, num_groups, top_groups);
    return choice;
  }
  throw UsageError(fmt::format("--routing {}: {}", source, kSyntax));
}

}  // namespace tokenyard::cli
