// What a combine must return, worked out with plain loops from what the experts of all ranks computed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "tests/reference/numbers.hpp"
#include "tests/reference/routing.hpp"

namespace reference {

// Rows are those of the arrangement: received rows (kCompact), or rows of the expert arrangement.
struct ExpertOutputs {
  Number number = Number::kFloat32;
  std::int64_t num_elements = 0;
  std::function<void(int rank, std::int64_t row, std::byte* elements)> read_row;
  std::vector<bool> has_factors;                            // by rank
  std::function<float(int rank, std::int64_t row)> factor;  // for ranks that have factors
  bool return_as_float8 = false;                            // not with float64
};

// One token's result:
//   sum = +0; for each rank that the token visited and that kept its row, ascending: sum += contribution
//   then sum += bias for each bias, rounded to `number` once.
// A contribution is the received row as it is (kCompact, no factors), or else
//   sum = +0; for each of the token's rows on that rank, in top-k order: sum += row * factor, rounded to `number` once.
// With return_as_float8 that sum is not rounded but comes through float8 with float scales (see float8.hpp).
// Every product and sum is rounded to float (to double for float64).
void combine_token(const World& world, const Routed& routed, int source, std::int64_t token, const ExpertOutputs& outputs,
                   const std::vector<const std::byte*>& biases, std::byte* result);

// The weights that come home for one token: for each k the carried weight of the place where it was served, 0 for ids of -1
// and for what was dropped. carried(rank, place): kCompact: place = row * top_k + k; else the row of the arrangement.
std::vector<float> return_weights(const World& world, const Routed& routed, int source, std::int64_t token,
                                  const std::function<float(int rank, std::int64_t place)>& carried);

}  // namespace reference
