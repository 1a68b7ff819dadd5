// Where the experts of a benchmark's tokens come from.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tokenyard::cli {

struct RoutingShape {
  int num_ranks = 1;
  std::int64_t num_tokens = 0;  // per rank
  int num_experts = 1;
  int top_k = 1;
  std::uint64_t seed = 0;
};

// The choices of all tokens of all ranks: topk_idx[(rank * num_tokens + token) * top_k + k].
struct RoutingChoice {
  RoutingShape shape;
  std::vector<std::int64_t> topk_idx;
  std::vector<float> topk_weights;  // uniform in [1/16, 1), from the seed

  const std::int64_t* ids(int rank, std::int64_t token = 0) const {
    return topk_idx.data() + (rank * shape.num_tokens + token) * shape.top_k;
  }
  const float* weights(int rank, std::int64_t token = 0) const {
    return topk_weights.data() + (rank * shape.num_tokens + token) * shape.top_k;
  }
};

// `source` is one of
//   uniform        top_k different experts, all equally likely
//   zipf:S         top_k different experts, the i-th most popular with a weight of 1/i^S; the seed says which are popular
//   grouped:G/K    experts stand in G equal groups; each token takes K groups and its experts among those, all equally likely
//   FILE.npy       integers [tokens, top_k], -1 for none: rank 0 takes the first num_tokens rows, rank 1 the next, and so on,
//                  from the beginning again where the file is shorter
// The same arguments give the same choice in every process. Throws UsageError for a source that cannot be, and Error for a file
// that cannot be read or does not fit.
RoutingChoice make_routing(const std::string& source, const RoutingShape& shape);

}  // namespace tokenyard::cli
