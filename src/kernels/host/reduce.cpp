#include "kernels/host/reduce.hpp"

#include <algorithm>
#include <cstring>

#include "base/hooks.hpp"
#include "kernels/host/float8_row.hpp"
#include "kernels/host/rows.hpp"
#include "kernels/host/sum.hpp"

namespace tokenyard::host {
namespace {

// Whether the rank that `entry` of [T, F] visits has sent a contribution.
bool came_back(const ReduceArgs& args, std::int64_t entry) {
  return args.row[entry] >= 0 && args.absent[args.destination[entry]] == 0;
}

// The contributions to one token, in rank order.
int collect_contributions(const ReduceArgs& args, std::int64_t token, std::array<const std::byte*, kMaxTopK>* contributions) {
  int num_contributions = 0;
  for (int o = 0; o < args.fan_out[token]; ++o) {
    const std::int64_t entry = token * args.max_fan_out + o;
    if (!came_back(args, entry)) continue;
    const std::int32_t destination = args.destination[entry];
    const std::byte* in_place = args.in_place[destination];
    (*contributions)[num_contributions++] =
        in_place != nullptr ? in_place + args.row[entry] * args.row_bytes
                            : args.returned_rows + args.places.place(token, o, destination) * args.returned_row_bytes;
  }
  if (has_fault(Fault::kReduceReversesRanks)) std::reverse(contributions->begin(), contributions->begin() + num_contributions);
  return num_contributions;
}

template <class Sum>
void reduce_rows(const ReduceArgs& args) {
  const std::size_t element_bytes = size_of(args.dtype);
  const std::size_t num_row_elements = args.row_bytes / element_bytes;
  std::array<const std::byte*, kMaxTopK> contributions;
  for (std::int64_t token = 0; token < args.num_tokens; ++token) {
    const int num_contributions = collect_contributions(args, token, &contributions);
    const auto add_terms = [&](Sum* sum, std::size_t first, std::size_t num_elements) {
      std::array<const std::byte*, kMaxTopK + 2> parts;
      int num_parts = 0;
      for (int i = 0; i < num_contributions; ++i) {
        if constexpr (std::is_same_v<Sum, float>) {
          if (args.as_float8) {
            Float8Row{num_row_elements}.add(sum, contributions[i], first, num_elements);
            continue;
          }
        }
        parts[num_parts++] = contributions[i] + first * element_bytes;
      }
      for (const ConstTensorView& bias : args.biases) {
        if (has_fault(Fault::kReduceForgetsSecondBias) && &bias == &args.biases[1]) break;
        if (bias) parts[num_parts++] = bias.at(token) + first * element_bytes;
      }
      add_to<Sum>(sum, parts.data(), nullptr, num_parts, args.dtype, num_elements);
    };
    std::byte* output = args.output.at(token);
    sum_blocks<Sum>(num_row_elements, add_terms, [&](const Sum* sum, std::size_t first, std::size_t num_elements) {
      round_to<Sum>(output + first * element_bytes, args.dtype, sum, num_elements, args.stores);
    });
  }
  finish_copies();
}

void reduce_weights(const ReduceArgs& args) {
  for (std::int64_t token = 0; token < args.num_tokens; ++token) {
    for (std::int64_t k = 0; k < args.top_k; ++k) {
      const std::int64_t pair = token * args.top_k + k;
      const std::int32_t ordinal = args.ordinal[pair];
      float weight = 0.0F;
      if (ordinal >= 0 && came_back(args, token * args.max_fan_out + ordinal)) {
        const std::int32_t destination = args.destination[token * args.max_fan_out + ordinal];
        weight = args.returned_weights[args.places.weight_row(token, destination) * args.top_k + k];
      }
      std::memcpy(args.weights.at(token, k), &weight, sizeof(weight));
    }
  }
}

}  // namespace

void reduce(const ReduceArgs& args) {
  if (args.dtype == DataType::kFloat64) {
    reduce_rows<double>(args);
  } else {
    reduce_rows<float>(args);
  }
  if (args.weights) reduce_weights(args);
}

}  // namespace tokenyard::host
