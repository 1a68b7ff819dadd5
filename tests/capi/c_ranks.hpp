// What tests of the C interface share: ranks as threads, owners of handles, and a small layer to dispatch.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <thread>
#include <vector>

#include "tokenyard.h"

namespace tokenyard::test {

template <auto destroy>
struct Destroy {
  template <class Handle>
  void operator()(Handle* handle) const {
    destroy(handle);
  }
};
using CExchange = std::unique_ptr<ty_exchange, Destroy<ty_exchange_destroy>>;
using CGroup = std::unique_ptr<ty_group, Destroy<ty_group_destroy>>;
using CWindow = std::unique_ptr<ty_window, Destroy<ty_window_destroy>>;
using CPlan = std::unique_ptr<ty_plan, Destroy<ty_plan_destroy>>;
using CPending = std::unique_ptr<ty_pending, Destroy<ty_pending_destroy>>;
using CReceived = std::unique_ptr<ty_received, Destroy<ty_received_destroy>>;
using CRouting = std::unique_ptr<ty_routing, Destroy<ty_routing_destroy>>;
using CRouter = std::unique_ptr<ty_router, Destroy<ty_router_destroy>>;

inline void expect_ok(ty_status status, std::source_location where = std::source_location::current()) {
  EXPECT_EQ(status, TY_OK) << ty_last_error() << " (line " << where.line() << ")";
}

inline void expect_status(ty_status status, ty_status wanted, const char* text,
                          std::source_location where = std::source_location::current()) {
  EXPECT_EQ(status, wanted) << ty_last_error() << " (line " << where.line() << ")";
  EXPECT_THAT(ty_last_error(), testing::HasSubstr(text)) << "line " << where.line();
}

// Makes a handle by a function that writes it through its last parameter.
template <class Owner, class Function, class... Args>
Owner make(Function function, Args... args) {
  typename Owner::pointer handle = nullptr;
  expect_ok(function(args..., &handle));
  return Owner(handle);
}

// Runs body(rank, group) on a thread per rank. `choose_options` may set more than the timeout; what options point to must last
// as long as the ranks.
inline void run_c_ranks(int num_ranks, const std::function<void(int rank, ty_group* group)>& body, int timeout_ms = 20'000,
                        const std::function<void(int rank, ty_group_options* options)>& choose_options = nullptr) {
  std::vector<ty_exchange*> exchanges(static_cast<std::size_t>(num_ranks));
  expect_ok(ty_exchange_create_threads(num_ranks, exchanges.data()));
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) {
    threads.emplace_back([&, rank] {
      const CExchange exchange(exchanges[static_cast<std::size_t>(rank)]);
      ty_group_options options = TY_GROUP_OPTIONS_INIT;
      options.timeout_ms = timeout_ms;
      if (choose_options != nullptr) choose_options(rank, &options);
      const auto group = make<CGroup>(ty_group_create, exchange.get(), &options);
      ASSERT_NE(group, nullptr);
      body(rank, group.get());
    });
  }
}

inline constexpr int kHidden = 8;
inline constexpr int kNumExperts = 4;
inline constexpr int kTopK = 2;
inline constexpr int kMaxTokens = 8;

// Float32 tokens whose values say where they come from, and two experts for each.
struct SmallLayer {
  explicit SmallLayer(int rank, int num_tokens_in = 5)
      : num_tokens(num_tokens_in),
        values(static_cast<std::size_t>(num_tokens) * kHidden),
        ids(static_cast<std::size_t>(num_tokens) * kTopK),
        factors(ids.size()),
        sums(values.size()) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(rank * 100) + static_cast<float>(i) * 0.375F;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<std::int64_t>(i * 3 + static_cast<std::size_t>(rank)) % kNumExperts;
      factors[i] = 0.1F * static_cast<float>(i + 1);
    }
    tokens = ty_tensor_of_rows(values.data(), TY_FLOAT32, num_tokens, kHidden);
    topk_idx = ty_tensor_of_rows(ids.data(), TY_INT64, num_tokens, kTopK);
    topk_weights = ty_tensor_of_rows(factors.data(), TY_FLOAT32, num_tokens, kTopK);
    output = ty_tensor_of_rows(sums.data(), TY_FLOAT32, num_tokens, kHidden);
  }
  SmallLayer(const SmallLayer&) = delete;
  SmallLayer& operator=(const SmallLayer&) = delete;

  ty_dispatch_args dispatch() const {
    ty_dispatch_args args = TY_DISPATCH_ARGS_INIT;
    args.lanes = &tokens;
    args.num_lanes = 1;
    args.topk_idx = &topk_idx;
    args.topk_weights = &topk_weights;
    return args;
  }

  ty_combine_args combine(const ty_routing* routing, const ty_tensor* rows) const {
    ty_combine_args args = TY_COMBINE_ARGS_INIT;
    args.routing = routing;
    args.rows = rows;
    args.output = &output;
    return args;
  }

  int num_tokens;
  std::vector<float> values;
  std::vector<std::int64_t> ids;
  std::vector<float> factors;
  std::vector<float> sums;
  ty_tensor tokens, topk_idx, topk_weights, output;
};

inline ty_lane float_lane() {
  ty_lane lane = TY_LANE_INIT;
  lane.dtype = TY_FLOAT32;
  lane.num_elements = kHidden;
  return lane;
}

// The caller keeps the lane.
inline ty_shape small_shape(const ty_lane* lane, ty_mode mode = TY_MODE_THROUGHPUT, ty_layout layout = TY_LAYOUT_COMPACT) {
  ty_shape shape = TY_SHAPE_INIT;
  shape.num_experts = kNumExperts;
  shape.top_k = kTopK;
  shape.max_tokens = kMaxTokens;
  shape.lanes = lane;
  shape.num_lanes = 1;
  shape.mode = mode;
  shape.layout = layout;
  if (layout == TY_LAYOUT_EXPERT_PADDED) shape.expert_capacity = kMaxTokens;
  return shape;
}

inline CPlan make_small_plan(ty_group* group, ty_mode mode = TY_MODE_THROUGHPUT, ty_layout layout = TY_LAYOUT_COMPACT) {
  const ty_lane lane = float_lane();
  const ty_shape shape = small_shape(&lane, mode, layout);
  return make<CPlan>(ty_plan_create, group, &shape);
}

}  // namespace tokenyard::test
