#include "tests/reference/combine.hpp"

#include <type_traits>

#include "tests/reference/float8.hpp"

namespace reference {
namespace {

// Sums of float64 are doubles, all others floats.
template <class Sum>
class Adder {
 public:
  Adder(Number number, std::int64_t num_elements)
      : number_(number), sum_(num_elements), row_(num_elements * bytes_of(number)) {}

  void clear() { sum_.assign(sum_.size(), Sum{0}); }

  void add(const std::byte* row) {
    for (std::size_t i = 0; i < sum_.size(); ++i) sum_[i] = sum_[i] + element(row, i);
  }

  void add_product(const std::byte* row, float factor) {
    for (std::size_t i = 0; i < sum_.size(); ++i) {
      const Sum product = element(row, i) * static_cast<Sum>(factor);
      sum_[i] = sum_[i] + product;
    }
  }

  void round_to(std::byte* row) const {
    for (std::size_t i = 0; i < sum_.size(); ++i) write(number_, static_cast<double>(sum_[i]), row + i * bytes_of(number_));
  }

  // Adds a sum that has come through float8 instead of being rounded to `number`.
  void add_as_float8(const Adder& other) {
    if constexpr (std::is_same_v<Sum, float>) {
      std::vector<float> values = other.sum_;
      pass_through_float8(&values);
      for (std::size_t i = 0; i < sum_.size(); ++i) sum_[i] = sum_[i] + values[i];
    }
  }

  std::byte* row() { return row_.data(); }

 private:
  Sum element(const std::byte* row, std::size_t i) const {
    return static_cast<Sum>(read(number_, row + i * bytes_of(number_)));
  }

  Number number_;
  std::vector<Sum> sum_;
  std::vector<std::byte> row_;  // room for the row being added
};

template <class Sum>
void combine_token_in(const World& world, const Routed& routed, int source, std::int64_t token, const ExpertOutputs& outputs,
                      const std::vector<const std::byte*>& biases, std::byte* result) {
  Adder<Sum> total(outputs.number, outputs.num_elements);
  Adder<Sum> contribution(outputs.number, outputs.num_elements);
  total.clear();
  for (const Visit& visit : routed.visits[source][token]) {
    if (visit.row < 0) continue;
    const bool has_factors = outputs.has_factors[visit.rank];
    if (world.arrangement == Arrangement::kCompact && !has_factors && !outputs.return_as_float8) {
      outputs.read_row(visit.rank, visit.row, total.row());
      total.add(total.row());
      continue;
    }
    contribution.clear();
    for (std::int64_t k = 0; k < world.top_k; ++k) {
      std::int64_t row = -1;
      if (world.arrangement == Arrangement::kCompact) {
        if (k == 0) row = visit.row;
      } else {
        row = routed.at[visit.rank].place[visit.row * world.top_k + k];
      }
      if (row < 0) continue;
      outputs.read_row(visit.rank, row, contribution.row());
      if (has_factors) {
        contribution.add_product(contribution.row(), outputs.factor(visit.rank, row));
      } else {
        contribution.add(contribution.row());
      }
    }
    if (outputs.return_as_float8) {
      total.add_as_float8(contribution);
      continue;
    }
    contribution.round_to(total.row());
    total.add(total.row());
  }
  for (const std::byte* bias : biases) total.add(bias);
  total.round_to(result);
}

}  // namespace

void combine_token(const World& world, const Routed& routed, int source, std::int64_t token, const ExpertOutputs& outputs,
                   const std::vector<const std::byte*>& biases, std::byte* result) {
  if (outputs.number == Number::kFloat64) {
    combine_token_in<double>(world, routed, source, token, outputs, biases, result);
  } else {
    combine_token_in<float>(world, routed, source, token, outputs, biases, result);
  }
}

std::vector<float> return_weights(const World& world, const Routed& routed, int source, std::int64_t token,
                                  const std::function<float(int rank, std::int64_t place)>& carried) {
  std::vector<float> weights(world.top_k, 0.0F);
  for (const Visit& visit : routed.visits[source][token]) {
    if (visit.row < 0) continue;
    for (int k = 0; k < world.top_k; ++k) {
      if (!visit.serves_k[k]) continue;
      const std::int64_t pair = visit.row * world.top_k + k;
      if (world.arrangement == Arrangement::kCompact) {
        weights[k] = carried(visit.rank, pair);
      } else if (routed.at[visit.rank].place[pair] >= 0) {
        weights[k] = carried(visit.rank, routed.at[visit.rank].place[pair]);
      }
    }
  }
  return weights;
}

}  // namespace reference
