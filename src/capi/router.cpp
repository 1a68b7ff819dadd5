#include "tokenyard/router.hpp"

#include "capi/handles.hpp"
#include "capi/structs.hpp"
#include "capi/tensors.hpp"
#include "capi/values.hpp"

using namespace tokenyard;
using namespace tokenyard::capi;

namespace {

RouterOptions read_options(const ty_router_options* given) {
  const ty_router_options read = read_struct(given, "options");
  if (read.num_experts < 1 || read.num_experts > kMaxExperts) {
    fail_argument("options->num_experts is {}: it must be from 1 to {}", read.num_experts, kMaxExperts);
  }
  RouterOptions options;
  options.num_experts = read.num_experts;
  options.top_k = read.top_k;
  options.scoring = enum_of(read.scoring, Scoring::kSigmoid, "options->scoring");
  if (read.correction_bias != nullptr) {
    options.correction_bias.assign(read.correction_bias, read.correction_bias + read.num_experts);
  }
  options.num_groups = read.num_groups;
  options.top_groups = read.top_groups;
  if (read.domain_of_expert != nullptr) {
    options.domain_of_expert.assign(read.domain_of_expert, read.domain_of_expert + read.num_experts);
  }
  options.max_domains = read.max_domains;
  options.normalize = flag_of(read.normalize, "options->normalize");
  options.scale = read.scale;
  return options;
}

}  // namespace

ty_status ty_router_create(const ty_router_options* options, ty_router** router) {
  return guarded_create(router, "router",
                        [&] { return std::unique_ptr<ty_router>(new ty_router{Router(read_options(options))}); });
}

void ty_router_destroy(ty_router* router) { delete router; }

ty_status ty_router_route(const ty_router* router, const ty_tensor* logits, const ty_tensor* topk_idx,
                          const ty_tensor* topk_weights) {
  return guarded([&] {
    required(router, "router")
        .router.route(read_tensor(logits, "logits"), read_tensor(topk_idx, "topk_idx"),
                      read_tensor(topk_weights, "topk_weights"));
  });
}
