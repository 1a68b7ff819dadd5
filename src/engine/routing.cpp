#include "tokenyard/routing.hpp"

#include <numeric>

#include "base/fail.hpp"
#include "engine/routing_data.hpp"

namespace tokenyard {
namespace {

template <class T>
ConstTensorView view(const std::vector<T>& values, std::int64_t num_rows) {
  return tensor(values.data(), {num_rows});
}

template <class T>
ConstTensorView view(const std::vector<T>& values, std::int64_t num_rows, std::int64_t num_columns) {
  return tensor(values.data(), {num_rows, num_columns});
}

bool is_compact(const Routing::Data& data) { return data.key.layout == Layout::kCompact; }

}  // namespace

const Routing::Data& Routing::get() const {
  if (data_ == nullptr) fail(ErrorCode::kStale, "this Routing is empty: take it from the result of a dispatch");
  return *data_;
}

std::int64_t Routing::num_tokens() const { return get().num_tokens; }
std::int64_t Routing::num_recv_rows() const { return get().num_recv_rows; }
std::int64_t Routing::num_expanded_rows() const { return get().num_expanded_rows; }

std::int64_t Routing::num_dropped() const {
  const Data& data = get();
  return std::accumulate(data.expert_dropped.begin(), data.expert_dropped.end(), std::int64_t{0});
}

ConstTensorView Routing::topk_idx() const { return view(get().topk_idx, get().num_view_rows, get().key.top_k); }

ConstTensorView Routing::topk_weights() const {
  if (!get().has_weights) return {};
  return view(get().topk_weights, get().num_view_rows, get().key.top_k);
}

ConstTensorView Routing::source_token() const { return view(get().source_token, get().num_view_rows); }
ConstTensorView Routing::source_offsets() const { return view(get().source_offsets, get().num_ranks + 1); }
ConstTensorView Routing::expert_counts() const { return view(get().expert_counts, get().num_local_experts); }
ConstTensorView Routing::expert_dropped() const { return view(get().expert_dropped, get().num_local_experts); }

ConstTensorView Routing::expert_offsets() const {
  if (is_compact(get())) return {};
  return view(get().expert_offsets, get().num_local_experts + 1);
}

ConstTensorView Routing::expanded_row() const {
  if (is_compact(get())) return {};
  return view(get().expanded_row, get().num_view_rows, get().key.top_k);
}

ConstTensorView Routing::gather_idx() const {
  if (is_compact(get())) return {};
  return view(get().gather_idx, get().num_expanded_view_rows);
}

ConstTensorView Routing::expanded_source_token() const {
  if (is_compact(get())) return {};
  return view(get().expanded_source_token, get().num_expanded_view_rows);
}

ConstTensorView Routing::expert_source_offsets() const {
  if (is_compact(get())) return {};
  return view(get().expert_source_offsets, get().num_local_experts, get().num_ranks + 1);
}

ConstTensorView Routing::expanded_weights() const {
  if (is_compact(get()) || !get().has_weights) return {};
  return view(get().expanded_weights, get().num_expanded_view_rows);
}

std::shared_ptr<Routing::Data> RoutingPool::take() {
  std::unique_ptr<Routing::Data> data;
  {
    const std::lock_guard lock(mutex_);
    if (!unused_.empty()) {
      data = std::move(unused_.back());
      unused_.pop_back();
    }
  }
  if (data == nullptr) data = std::make_unique<Routing::Data>();
  const auto give_back = [pool = shared_from_this()](Routing::Data* dropped) {
    const std::lock_guard lock(pool->mutex_);
    pool->unused_.emplace_back(dropped);
  };
  return std::shared_ptr<Routing::Data>(data.release(), give_back);
}

}  // namespace tokenyard
