#include "tests/property/masked_case.hpp"

#include <barrier>
#include <set>
#include <vector>

#include "base/hooks.hpp"
#include "tests/engine/round_trip.hpp"
#include "tests/property/findings.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/random_bits.hpp"
#include "tests/support/run_ranks.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::test {
namespace {

constexpr int kExpertsPerRank = 2;  // of small_shape

struct MaskedCase {
  int num_ranks = 2;
  std::set<int> masked;
  int rounds_before = 0;
  int rounds_after = 0;
  std::vector<std::vector<std::int64_t>> num_tokens;  // by round, then rank
};

MaskedCase make_case(std::uint64_t seed) {
  RandomBits random(seed);
  MaskedCase one;
  one.num_ranks = static_cast<int>(random.from(2, 8));
  one.masked.insert(static_cast<int>(random.from(0, one.num_ranks - 1)));
  if (one.num_ranks > 2 && random.one_in(2)) one.masked.insert(static_cast<int>(random.from(0, one.num_ranks - 1)));
  one.rounds_before = static_cast<int>(random.from(1, 5));
  one.rounds_after = static_cast<int>(random.from(1, 5));
  for (int round = 0; round < one.rounds_before + one.rounds_after; ++round) {
    std::vector<std::int64_t>& counts = one.num_tokens.emplace_back();
    for (int rank = 0; rank < one.num_ranks; ++rank) counts.push_back(random.from(0, kMaxTokens));
  }
  return one;
}

// The ranks that a token visits, less those that are absent.
std::set<int> ranks_of(const SmallInput& input, std::int64_t token, const std::set<int>& absent) {
  std::set<int> ranks;
  for (int k = 0; k < kTopK; ++k) ranks.insert(input.ids[token * kTopK + k] / kExpertsPerRank);
  for (const int rank : absent) ranks.erase(rank);
  return ranks;
}

class MaskedRank {
 public:
  MaskedRank(const MaskedCase& one, const Group& group, Findings* findings)
      : case_(one), rank_(group.rank()), plan_(group.plan(latency_shape(one.num_ranks))), findings_(findings) {}

  void run_before() {
    for (int round = 0; round < case_.rounds_before; ++round) run_round(round, {});
  }

  void run_after() {
    if (case_.masked.contains(rank_)) return;
    for (const int masked : case_.masked) plan_.mask_rank(masked);
    for (int round = 0; round < case_.rounds_after; ++round) run_round(case_.rounds_before + round, case_.masked);
  }

 private:
  SmallInput input_of(int rank, int round) const {
    return SmallInput(rank, case_.num_ranks, round, case_.num_tokens[round][rank]);
  }

  void run_round(int round, const std::set<int>& absent) {
    const SmallInput input = input_of(rank_, round);
    const Received received = plan_.dispatch(input.dispatch());
    check_received(received, round, absent);
    SmallOutput output(input);
    plan_.combine(output.combine(received.routing(), received.lane(0)));
    for (std::int64_t element = 0; element < input.num_tokens * kHidden; ++element) {
      const auto num_ranks = static_cast<float>(ranks_of(input, element / kHidden, absent).size());
      if (output.values[element] == num_ranks * input.rows[element]) continue;
      findings_->add("rank {}, round {}: the sum of token {} is {}, not {} times {}", rank_, round, element / kHidden,
                     output.values[element], num_ranks, input.rows[element]);
      return;
    }
  }

  void check_received(const Received& received, int round, const std::set<int>& absent) {
    const auto* offsets = static_cast<const std::int64_t*>(received.routing().source_offsets().data);
    const auto* tokens = static_cast<const std::int32_t*>(received.routing().source_token().data);
    const auto* values = static_cast<const float*>(received.lane(0).data);
    for (int source = 0; source < case_.num_ranks; ++source) {
      std::vector<std::int64_t> expected;
      const SmallInput sent = input_of(source, round);
      for (std::int64_t token = 0; token < sent.num_tokens && !absent.contains(source); ++token) {
        if (ranks_of(sent, token, {}).contains(rank_)) expected.push_back(token);
      }
      if (std::vector<std::int64_t>(tokens + offsets[source], tokens + offsets[source + 1]) != expected) {
        findings_->add("rank {}, round {}: {} rows of rank {} where {} were expected, or of other tokens", rank_, round,
                       offsets[source + 1] - offsets[source], source, expected.size());
        continue;
      }
      for (std::int64_t row = offsets[source]; row < offsets[source + 1]; ++row) {
        for (std::int64_t column = 0; column < kHidden; ++column) {
          if (values[row * kHidden + column] == value_of(source, round, tokens[row], column)) continue;
          findings_->add("rank {}, round {}: row {} of rank {} is wrong in column {}", rank_, round, row, source, column);
          return;
        }
      }
    }
  }

  const MaskedCase& case_;
  int rank_;
  Plan plan_;
  Findings* findings_;
};

}  // namespace

std::string run_masked_case(std::uint64_t seed) {
  const MaskedCase one = make_case(seed);
  Findings findings;
  std::barrier meeting(one.num_ranks);
  set_delay_seed(seed | 1);
  run_thread_ranks(one.num_ranks, [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    try {
      const Group group = Group::create(std::move(exchange), patient());
      MaskedRank masked_rank(one, group, &findings);
      masked_rank.run_before();
      meeting.arrive_and_wait();  // masking ends what the masked rank is at
      masked_rank.run_after();
      meeting.arrive_and_wait();  // a masked rank is silent, but still there
    } catch (const std::exception& error) {
      findings.add("rank {} threw: {}", rank, error.what());
      meeting.arrive_and_drop();
    }
  });
  return findings.empty() ? std::string() : findings.text();
}

}  // namespace tokenyard::test
