#include "kernels/host/reduce.hpp"

#include <algorithm>
#include <cstring>

#include "base/hooks.hpp"
#include "kernels/host/rows.hpp"
#include "kernels/host/sum.hpp"

namespace tokenyard::host {
namespace {

// The contributions to one token, in rank order.
int collect_contributions(const ReduceArgs& args, std::int64_t token, std::array<const std::byte*, kMaxTopK>* contributions) {
  int num_contributions = 0;
  for (int o = 0; o < args.fan_out[token]; ++o) {
    const std::int64_t entry = token * args.max_fan_out + o;
    if (args.row[entry] < 0) continue;
    const std::byte* in_place = args.in_place[args.destination[entry]];
    (*contributions)[num_contributions++] =
        in_place != nullptr ? in_place + args.row[entry] * args.row_bytes : args.returned_rows + entry * args.row_bytes;
  }
  if (has_fault(Fault::kReduceReversesRanks)) std::reverse(contributions->begin(), contributions->begin() + num_contributions);
  return num_contributions;
}

template <class Sum>
void reduce_rows(const ReduceArgs& args) {
  std::array<const std::byte*, kMaxTopK> contributions;
  for (std::int64_t token = 0; token < args.num_tokens; ++token) {
    const int num_contributions = collect_contributions(args, token, &contributions);
    sum_blocks<Sum>(args.dtype, args.row_bytes, args.output.at(token),
                    [&](Sum* sum, std::size_t offset, std::size_t num_elements) {
                      for (int i = 0; i < num_contributions; ++i) {
                        add_to<Sum>(sum, contributions[i] + offset, args.dtype, num_elements);
                      }
                      for (const ConstTensorView& bias : args.biases) {
                        if (has_fault(Fault::kReduceForgetsSecondBias) && &bias == &args.biases[1]) break;
                        if (bias) add_to<Sum>(sum, bias.at(token) + offset, args.dtype, num_elements);
                      }
                    });
  }
  finish_copies();
}

void reduce_weights(const ReduceArgs& args) {
  for (std::int64_t token = 0; token < args.num_tokens; ++token) {
    for (std::int64_t k = 0; k < args.top_k; ++k) {
      const std::int64_t pair = token * args.top_k + k;
      const std::int32_t ordinal = args.ordinal[pair];
      const bool came_back = ordinal >= 0 && args.row[token * args.max_fan_out + ordinal] >= 0;
      const float weight = came_back ? args.returned_weights[pair] : 0.0F;
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
