#include "kernels/host/fold.hpp"

#include <algorithm>
#include <array>

#include "base/hooks.hpp"
#include "kernels/host/float8_row.hpp"
#include "kernels/host/rows.hpp"

namespace tokenyard::host {
namespace {

// The rows that make up a contribution, in top-k order.
struct Terms {
  int num_terms = 0;
  std::array<const std::byte*, kMaxTopK> rows;
  std::array<float, kMaxTopK> factors;

  void add(const FoldArgs& args, std::int64_t layout_row) {
    rows[num_terms] = args.rows + layout_row * args.row_bytes;
    if (args.factors != nullptr) factors[num_terms] = args.factors[layout_row];
    ++num_terms;
  }
};

Terms collect_terms(const FoldArgs& args, std::int64_t row) {
  Terms terms;
  if (args.expanded_row == nullptr) {
    terms.add(args, row);
    return terms;
  }
  for (int k = 0; k < args.top_k; ++k) {
    const std::int64_t layout_row = args.expanded_row[row * args.top_k + k];
    if (layout_row >= 0) terms.add(args, layout_row);
  }
  if (has_fault(Fault::kFoldReversesTopK)) {
    std::reverse(terms.rows.begin(), terms.rows.begin() + terms.num_terms);
    std::reverse(terms.factors.begin(), terms.factors.begin() + terms.num_terms);
  }
  return terms;
}

void fold_row(const FoldArgs& args, std::byte* target, const Terms& terms) {
  const std::size_t num_elements = args.row_bytes / size_of(args.dtype);
  const float* factors = args.factors == nullptr ? nullptr : terms.factors.data();
  if (args.as_float8) {
    const Float8Row row{num_elements};
    sum_blocks(num_elements, [&](float* sum, std::size_t first, std::size_t num_block_elements) {
      std::array<const std::byte*, kMaxTopK> parts;
      for (int i = 0; i < terms.num_terms; ++i) parts[i] = terms.rows[i] + first * size_of(args.dtype);
      add_rows(sum, parts.data(), factors, terms.num_terms, args.dtype, num_block_elements);
      row.store(target, sum, first, num_block_elements);
    });
  } else if (has_fault(Fault::kFoldRoundsEveryTerm)) {
    for (int i = 0; i < terms.num_terms; ++i) {
      const std::array parts{terms.rows[i], static_cast<const std::byte*>(target)};
      const std::array part_factors{factors == nullptr ? 1.0F : factors[i], 1.0F};
      sum_rows(target, parts.data(), part_factors.data(), i == 0 ? 1 : 2, args.dtype, num_elements, Stores::kCached);
    }
  } else {
    sum_rows(target, terms.rows.data(), factors, terms.num_terms, args.dtype, num_elements, args.stores);
  }
}

void return_weights(const FoldArgs& args, std::int64_t row, int source) {
  auto* weights = reinterpret_cast<float*>(args.windows[source] + args.layout->weights);
  for (int k = 0; k < args.top_k; ++k) {
    const std::int64_t pair = row * args.top_k + k;
    if (args.topk_idx[pair] < 0) continue;
    float weight = 0.0F;
    if (args.expanded_row == nullptr) {
      weight = args.carried_weights[pair];
    } else if (args.expanded_row[pair] >= 0) {
      weight = args.carried_weights[args.expanded_row[pair]];
    }
    weights[args.places.weight_row(args.source_token[row], args.rank) * args.top_k + k] = weight;
  }
}

}  // namespace

void fold(const FoldArgs& args) {
  for (int source = 0; source < args.num_ranks; ++source) {
    if (args.windows[source] == nullptr) continue;
    for (std::int64_t row = args.source_offsets[source]; row < args.source_offsets[source + 1]; ++row) {
      if (args.carried_weights != nullptr) return_weights(args, row, source);
      if (args.rows == nullptr || source == args.skip_source) continue;
      const std::int64_t place = args.places.place(args.source_token[row], args.ordinal[row], args.rank);
      std::byte* target = args.windows[source] + args.layout->rows + place * args.returned_row_bytes;
      if (args.expanded_row == nullptr && args.factors == nullptr && !args.as_float8) {
        copy_row(target, args.rows + row * args.row_bytes, args.row_bytes, args.stores);
        continue;
      }
      fold_row(args, target, collect_terms(args, row));
    }
  }
}

}  // namespace tokenyard::host
