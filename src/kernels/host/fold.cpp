#include "kernels/host/fold.hpp"

#include <algorithm>
#include <array>

#include "base/hooks.hpp"
#include "kernels/host/rows.hpp"
#include "kernels/host/sum.hpp"

namespace tokenyard::host {
namespace {

struct Term {
  const std::byte* row;
  float factor;
};

// The rows of this rank that make up its contribution to received row `row`, in top-k order.
int collect_terms(const FoldArgs& args, std::int64_t row, std::array<Term, kMaxTopK>* terms) {
  const auto term = [&](std::int64_t layout_row) {
    return Term{args.rows + layout_row * args.row_bytes, args.factors == nullptr ? 1.0F : args.factors[layout_row]};
  };
  if (args.expanded_row == nullptr) {
    (*terms)[0] = term(row);
    return 1;
  }
  int num_terms = 0;
  for (int k = 0; k < args.top_k; ++k) {
    const std::int64_t layout_row = args.expanded_row[row * args.top_k + k];
    if (layout_row >= 0) (*terms)[num_terms++] = term(layout_row);
  }
  if (has_fault(Fault::kFoldReversesTopK)) std::reverse(terms->begin(), terms->begin() + num_terms);
  return num_terms;
}

template <class Sum>
void fold_row(const FoldArgs& args, std::byte* target, const std::array<Term, kMaxTopK>& terms, int num_terms) {
  const bool with_factors = args.factors != nullptr;
  sum_blocks<Sum>(args.dtype, args.row_bytes, target, [&](Sum* sum, std::size_t offset, std::size_t num_elements) {
    for (int i = 0; i < num_terms; ++i) {
      if (with_factors) {
        add_scaled_to<Sum>(sum, terms[i].row + offset, args.dtype, num_elements, terms[i].factor);
      } else {
        add_to<Sum>(sum, terms[i].row + offset, args.dtype, num_elements);
      }
      if (has_fault(Fault::kFoldRoundsEveryTerm)) {
        round_to<Sum>(target + offset, args.dtype, sum, num_elements);
        std::fill_n(sum, num_elements, Sum{0});
        add_to<Sum>(sum, target + offset, args.dtype, num_elements);
      }
    }
  });
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
    weights[static_cast<std::int64_t>(args.source_token[row]) * args.top_k + k] = weight;
  }
}

}  // namespace

void fold(const FoldArgs& args) {
  std::array<Term, kMaxTopK> terms;
  for (int source = 0; source < args.num_ranks; ++source) {
    for (std::int64_t row = args.source_offsets[source]; row < args.source_offsets[source + 1]; ++row) {
      if (args.carried_weights != nullptr) return_weights(args, row, source);
      if (args.rows == nullptr || source == args.skip_source) continue;
      const std::int64_t place = static_cast<std::int64_t>(args.source_token[row]) * args.max_fan_out + args.ordinal[row];
      std::byte* target = args.windows[source] + args.layout->rows + place * args.row_bytes;
      if (args.expanded_row == nullptr && args.factors == nullptr) {
        copy_row(target, args.rows + row * args.row_bytes, args.row_bytes);
        continue;
      }
      const int num_terms = collect_terms(args, row, &terms);
      if (args.dtype == DataType::kFloat64) {
        fold_row<double>(args, target, terms, num_terms);
      } else {
        fold_row<float>(args, target, terms, num_terms);
      }
    }
  }
}

}  // namespace tokenyard::host
