#include "tests/reference/routing.hpp"

#include <algorithm>
#include <cstddef>

namespace reference {
namespace {

struct Home {
  int rank = -1;
  std::int64_t local_expert = -1;
};

std::vector<std::vector<int>> experts_of_ranks(const World& world) {
  if (!world.experts_of.empty()) return world.experts_of;
  std::vector<std::vector<int>> experts_of(world.num_ranks);
  int per_rank = world.num_experts / world.num_ranks;
  if (per_rank * world.num_ranks < world.num_experts) ++per_rank;
  int expert = 0;
  for (int rank = 0; rank < world.num_ranks; ++rank) {
    for (int i = 0; i < per_rank && expert < world.num_experts; ++i) experts_of[rank].push_back(expert++);
  }
  return experts_of;
}

// All places of each expert, rank by rank and in each rank's own order.
std::vector<std::vector<Home>> homes_of_experts(const World& world, const std::vector<std::vector<int>>& experts_of) {
  std::vector<std::vector<Home>> homes(world.num_experts);
  for (int rank = 0; rank < world.num_ranks; ++rank) {
    for (std::size_t i = 0; i < experts_of[rank].size(); ++i) {
      homes[experts_of[rank][i]].push_back({rank, static_cast<std::int64_t>(i)});
    }
  }
  return homes;
}

// A token is served at home if its expert stands there too (by the first copy there). Otherwise the copies take turns: token t
// of rank s goes to copy number (s + t) modulo the number of copies.
Home choose_home(const std::vector<Home>& homes, int source, std::int64_t token) {
  for (const Home& home : homes) {
    if (home.rank == source) return home;
  }
  return homes[(source + token) % static_cast<std::int64_t>(homes.size())];
}

// Rows of an expert stand in the order in which their tokens were received, and those of one token in top-k order.
void arrange(const World& world, Arrived* arrived) {
  const std::int64_t top_k = world.top_k;
  const auto num_rows = static_cast<std::int64_t>(arrived->rows.size());
  std::vector<std::vector<std::int64_t>> pairs_of(arrived->num_experts);  // row * k + k
  for (std::int64_t pair = 0; pair < num_rows * top_k; ++pair) {
    if (arrived->local_expert[pair] >= 0) pairs_of[arrived->local_expert[pair]].push_back(pair);
  }

  arrived->expert_counts.assign(arrived->num_experts, 0);
  arrived->place.assign(num_rows * top_k, -1);
  arrived->expert_offsets.assign(1, 0);
  for (int expert = 0; expert < arrived->num_experts; ++expert) {
    std::vector<std::int64_t>& pairs = pairs_of[expert];
    const auto num_pairs = static_cast<std::int64_t>(pairs.size());
    std::int64_t num_places = num_pairs;
    if (world.arrangement == Arrangement::kContiguous) {
      while (num_places % world.alignment != 0) ++num_places;
    }
    if (world.arrangement == Arrangement::kPadded) num_places = world.expert_capacity;
    for (std::int64_t i = 0; i < num_pairs; ++i) {
      if (i >= num_places) {
        ++arrived->expert_dropped[expert];
        continue;
      }
      ++arrived->expert_counts[expert];
      arrived->place[pairs[i]] = arrived->expert_offsets[expert] + i;
    }
    arrived->expert_offsets.push_back(arrived->expert_offsets[expert] + num_places);
  }

  arrived->copied_row.assign(arrived->expert_offsets.back(), -1);
  arrived->place_tokens.assign(arrived->expert_offsets.back(), -1);
  if (!arrived->weights.empty()) arrived->place_weights.assign(arrived->expert_offsets.back(), 0.0F);
  for (std::int64_t pair = 0; pair < num_rows * top_k; ++pair) {
    if (arrived->place[pair] < 0) continue;
    arrived->copied_row[arrived->place[pair]] = pair / top_k;
    arrived->place_tokens[arrived->place[pair]] = arrived->rows[pair / top_k].token;
    if (!arrived->weights.empty()) arrived->place_weights[arrived->place[pair]] = arrived->weights[pair];
  }

  for (int expert = 0; expert < arrived->num_experts; ++expert) {
    std::int64_t num_rows_before = 0;
    arrived->sources_of_experts.push_back(0);
    for (int source = 0; source < world.num_ranks; ++source) {
      for (std::int64_t i = 0; i < arrived->expert_counts[expert]; ++i) {
        const std::int64_t row = arrived->copied_row[arrived->expert_offsets[expert] + i];
        if (arrived->rows[row].source == source) ++num_rows_before;
      }
      arrived->sources_of_experts.push_back(num_rows_before);
    }
  }
}

}  // namespace

Routed route(const World& world, const std::vector<Sent>& sent) {
  const std::int64_t top_k = world.top_k;
  const std::vector<std::vector<int>> experts_of = experts_of_ranks(world);
  const std::vector<std::vector<Home>> homes = homes_of_experts(world, experts_of);

  Routed routed;
  routed.at.resize(world.num_ranks);
  routed.visits.resize(world.num_ranks);
  for (int rank = 0; rank < world.num_ranks; ++rank) {
    Arrived& arrived = routed.at[rank];
    arrived.num_experts = static_cast<int>(experts_of[rank].size());
    arrived.expert_dropped.assign(arrived.num_experts, 0);
    arrived.source_offsets.assign(world.num_ranks + 1, 0);
  }

  std::vector<Home> chosen(world.top_k);
  for (int source = 0; source < world.num_ranks; ++source) {
    const Sent& mine = sent[source];
    routed.visits[source].resize(mine.num_tokens);
    for (std::int64_t token = 0; token < mine.num_tokens; ++token) {
      std::vector<Visit>& visits = routed.visits[source][token];
      for (std::int64_t k = 0; k < top_k; ++k) {
        const std::int64_t id = mine.ids[token * top_k + k];
        chosen[k] = id < 0 ? Home{} : choose_home(homes[id], source, token);
        if (id < 0) continue;
        auto visit =
            std::find_if(visits.begin(), visits.end(), [&](const Visit& known) { return known.rank == chosen[k].rank; });
        if (visit == visits.end()) visit = visits.insert(visits.end(), {chosen[k].rank, -1, std::vector<bool>(top_k)});
        visit->serves_k[k] = true;
      }
      std::sort(visits.begin(), visits.end(), [](const Visit& a, const Visit& b) { return a.rank < b.rank; });

      for (Visit& visit : visits) {
        Arrived& arrived = routed.at[visit.rank];
        const auto num_rows = static_cast<std::int64_t>(arrived.rows.size());
        if (world.recv_capacity >= 0 && num_rows >= world.recv_capacity) {
          for (std::int64_t k = 0; k < top_k; ++k) {
            if (visit.serves_k[k]) ++arrived.expert_dropped[chosen[k].local_expert];
          }
          continue;
        }
        visit.row = num_rows;
        arrived.rows.push_back({source, token});
        for (std::int64_t k = 0; k < top_k; ++k) {
          arrived.local_expert.push_back(visit.serves_k[k] ? chosen[k].local_expert : -1);
          if (!mine.weights.empty()) arrived.weights.push_back(mine.weights[token * top_k + k]);
        }
      }
    }
    for (Arrived& arrived : routed.at) arrived.source_offsets[source + 1] = static_cast<std::int64_t>(arrived.rows.size());
  }

  for (Arrived& arrived : routed.at) arrange(world, &arrived);
  return routed;
}

}  // namespace reference
