#include "kernels/host/reduce.hpp"

#include <algorithm>
#include <cstring>

#include "base/hooks.hpp"
#include "kernels/host/float8_row.hpp"
#include "kernels/host/rows.hpp"

namespace tokenyard::host {
namespace {

// Whether the rank that `entry` of [T, F] visits has sent a contribution.
bool came_back(const ReduceArgs& args, std::int64_t entry) {
  return args.row[entry] >= 0 && args.absent[args.destination[entry]] == 0;
}

// The contributions to one token, in rank order.
int collect_contributions(const ReduceArgs& args, std::int64_t token, const std::byte** contributions) {
  int num_contributions = 0;
  for (int o = 0; o < args.fan_out[token]; ++o) {
    const std::int64_t entry = token * args.max_fan_out + o;
    if (!came_back(args, entry)) continue;
    const std::int32_t destination = args.destination[entry];
    const std::byte* in_place = args.in_place[destination];
    const std::int64_t returner = has_fault(Fault::kReturnPlaceByOrdinal) ? o : destination;
    contributions[num_contributions++] =
        in_place != nullptr ? in_place + args.row[entry] * args.row_bytes
                            : args.returned_rows + args.places.place(token, o, returner) * args.returned_row_bytes;
  }
  if (has_fault(Fault::kReduceReversesRanks)) std::reverse(contributions, contributions + num_contributions);
  return num_contributions;
}

void reduce_rows(const ReduceArgs& args) {
  const std::size_t element_bytes = size_of(args.dtype);
  const std::size_t num_elements = args.row_bytes / element_bytes;
  std::array<const std::byte*, kMaxTopK + 2> parts;
  for (std::int64_t token = 0; token < args.num_tokens; ++token) {
    const int num_contributions = collect_contributions(args, token, parts.data());
    int num_parts = num_contributions;
    for (const ConstTensorView& bias : args.biases) {
      if (has_fault(Fault::kReduceForgetsSecondBias) && &bias == &args.biases[1]) break;
      if (bias) parts[num_parts++] = bias.at(token);
    }
    std::byte* output = args.output.at(token);
    if (!args.as_float8) {
      sum_rows(output, parts.data(), nullptr, num_parts, args.dtype, num_elements, args.stores);
      continue;
    }
    const Float8Row row{num_elements};
    sum_blocks(num_elements, [&](float* sum, std::size_t first, std::size_t num_block_elements) {
      for (int i = 0; i < num_contributions; ++i) row.add(sum, parts[i], first, num_block_elements);
      std::array<const std::byte*, 2> biases;
      for (int i = num_contributions; i < num_parts; ++i) biases[i - num_contributions] = parts[i] + first * element_bytes;
      add_rows(sum, biases.data(), nullptr, num_parts - num_contributions, args.dtype, num_block_elements);
      round_row(output + first * element_bytes, args.dtype, sum, num_block_elements);
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
  reduce_rows(args);
  if (args.weights) reduce_weights(args);
}

}  // namespace tokenyard::host
