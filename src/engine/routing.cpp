#include "tokenyard/routing.hpp"

#include <initializer_list>
#include <numeric>

#include "base/fail.hpp"
#include "engine/routing_data.hpp"

namespace tokenyard {
namespace {

// A view of one of the Routing's arrays, wherever they lie.
template <class T>
ConstTensorView view(const Routing::Data& data, const std::vector<T>& values, T* DeviceRouting::* on_device,
                     std::initializer_list<std::int64_t> extents) {
  const T* first = data.device.has_value() ? (*data.device).*on_device : values.data();
  return tensor(first, extents);
}

bool is_compact(const Routing::Data& data) { return data.key.layout == Layout::kCompact; }

}  // namespace

const Routing::Data& Routing::get() const {
  if (data_ == nullptr) fail(ErrorCode::kStale, "this Routing is empty: take it from the result of a dispatch");
  return *data_;
}

std::int64_t Routing::num_tokens() const { return get().num_tokens; }

std::int64_t Routing::num_recv_rows() const {
  const Data& data = get();
  return data.num_recv_rows >= 0 ? data.num_recv_rows : data.device->fetch_num_recv_rows();
}

std::int64_t Routing::num_expanded_rows() const {
  const Data& data = get();
  return data.num_expanded_rows >= 0 ? data.num_expanded_rows : data.device->fetch_num_expanded_rows();
}

std::int64_t Routing::num_dropped() const {
  const Data& data = get();
  if (data.device.has_value()) return data.device->fetch_num_dropped();
  return std::accumulate(data.expert_dropped.begin(), data.expert_dropped.end(), std::int64_t{0});
}

ConstTensorView Routing::topk_idx() const {
  const Data& data = get();
  return view(data, data.topk_idx, &DeviceRouting::topk_idx, {data.num_view_rows, data.key.top_k});
}

ConstTensorView Routing::topk_weights() const {
  const Data& data = get();
  if (!data.has_weights) return {};
  return view(data, data.topk_weights, &DeviceRouting::topk_weights, {data.num_view_rows, data.key.top_k});
}

ConstTensorView Routing::source_token() const {
  const Data& data = get();
  return view(data, data.source_token, &DeviceRouting::source_token, {data.num_view_rows});
}

ConstTensorView Routing::source_offsets() const {
  const Data& data = get();
  return view(data, data.source_offsets, &DeviceRouting::source_offsets, {data.num_ranks + 1});
}

ConstTensorView Routing::expert_counts() const {
  const Data& data = get();
  return view(data, data.expert_counts, &DeviceRouting::expert_counts, {data.num_local_experts});
}

ConstTensorView Routing::expert_dropped() const {
  const Data& data = get();
  return view(data, data.expert_dropped, &DeviceRouting::expert_dropped, {data.num_local_experts});
}

ConstTensorView Routing::expert_offsets() const {
  const Data& data = get();
  if (is_compact(data)) return {};
  return view(data, data.expert_offsets, &DeviceRouting::expert_offsets, {data.num_local_experts + 1});
}

ConstTensorView Routing::expanded_row() const {
  const Data& data = get();
  if (is_compact(data)) return {};
  return view(data, data.expanded_row, &DeviceRouting::expanded_row, {data.num_view_rows, data.key.top_k});
}

ConstTensorView Routing::gather_idx() const {
  const Data& data = get();
  if (is_compact(data)) return {};
  return view(data, data.gather_idx, &DeviceRouting::gather_idx, {data.num_expanded_view_rows});
}

ConstTensorView Routing::expanded_source_token() const {
  const Data& data = get();
  if (is_compact(data)) return {};
  return view(data, data.expanded_source_token, &DeviceRouting::expanded_source_token, {data.num_expanded_view_rows});
}

ConstTensorView Routing::expert_source_offsets() const {
  const Data& data = get();
  if (is_compact(data)) return {};
  return view(data, data.expert_source_offsets, &DeviceRouting::expert_source_offsets,
              {data.num_local_experts, data.num_ranks + 1});
}

ConstTensorView Routing::expanded_weights() const {
  const Data& data = get();
  if (is_compact(data) || !data.has_weights) return {};
  return view(data, data.expanded_weights, &DeviceRouting::expanded_weights, {data.num_expanded_view_rows});
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
