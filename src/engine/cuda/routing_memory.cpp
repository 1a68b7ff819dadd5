#include "engine/cuda/routing_memory.hpp"

#include <algorithm>
#include <utility>

#include "engine/cuda/carve.hpp"
#include "engine/cuda/remains.hpp"

namespace tokenyard {
namespace {

std::size_t carve(std::byte* memory, const RoutingBounds& bounds, DeviceRouting* arrays) {
  Carve carve(memory);
  const std::int64_t top_k = bounds.top_k;
  const std::int64_t num_experts = bounds.max_local_experts;
  arrays->fan_out = carve.take<std::int32_t>(bounds.max_tokens);
  arrays->destination = carve.take<std::int32_t>(bounds.max_tokens * bounds.max_fan_out);
  arrays->row = carve.take<std::int64_t>(bounds.max_tokens * bounds.max_fan_out);
  arrays->ordinal = carve.take<std::int32_t>(bounds.max_tokens * top_k);
  arrays->local_idx = carve.take<std::int32_t>(bounds.max_tokens * top_k);
  arrays->source_offsets = carve.take<std::int64_t>(bounds.num_ranks + 1);
  arrays->source_token = carve.take<std::int32_t>(bounds.num_rows);
  arrays->recv_ordinal = carve.take<std::int32_t>(bounds.num_rows);
  arrays->topk_idx = carve.take<std::int32_t>(bounds.num_rows * top_k);
  arrays->topk_weights = carve.take<float>(bounds.num_rows * top_k);
  arrays->expert_counts = carve.take<std::int64_t>(num_experts);
  arrays->expert_dropped = carve.take<std::int64_t>(num_experts);
  arrays->sent = carve.take<SentBlock>(bounds.num_ranks);
  arrays->id = carve.take<std::uint64_t>(1);
  if (bounds.is_expanded) {
    arrays->expert_offsets = carve.take<std::int64_t>(num_experts + 1);
    arrays->expert_source_offsets = carve.take<std::int64_t>(num_experts * (bounds.num_ranks + 1));
    arrays->expanded_row = carve.take<std::int64_t>(bounds.num_rows * top_k);
    arrays->gather_idx = carve.take<std::int32_t>(bounds.num_expanded_rows);
    arrays->expanded_source_token = carve.take<std::int32_t>(bounds.num_expanded_rows);
    arrays->expanded_weights = carve.take<float>(bounds.num_expanded_rows);
  }
  return carve.num_bytes();
}

void keep_until_over(std::unique_ptr<RoutingMemory> memory) {
  const std::shared_ptr<RoutingMemory> kept = std::move(memory);
  keep_until([kept] { return kept->order.is_over(); }, {});
}

}  // namespace

bool RoutingBounds::hold(const RoutingBounds& other) const {
  return num_rows >= other.num_rows && num_expanded_rows >= other.num_expanded_rows;
}

RoutingMemory& memory_of(const Routing::Data& routing) { return *static_cast<RoutingMemory*>(routing.device->memory.get()); }

std::shared_ptr<StreamOrder> order_of(const Routing::Data& routing) {
  return {routing.device->memory, &memory_of(routing).order};
}

RoutingMemoryPool::~RoutingMemoryPool() {
  for (std::unique_ptr<RoutingMemory>& memory : unused_) keep_until_over(std::move(memory));
}

std::unique_ptr<RoutingMemory> RoutingMemoryPool::make(const RoutingBounds& bounds) const {
  auto memory = std::make_unique<RoutingMemory>();
  memory->bounds = bounds;
  memory->region = allocate_(carve(nullptr, bounds, &memory->arrays));
  carve(memory->region->data(), bounds, &memory->arrays);
  return memory;
}

void RoutingMemoryPool::drop_smaller(const RoutingBounds& bounds) {
  const std::lock_guard lock(mutex_);
  const auto smaller =
      std::partition(unused_.begin(), unused_.end(), [&](const auto& memory) { return memory->bounds.hold(bounds); });
  for (auto memory = smaller; memory != unused_.end(); ++memory) keep_until_over(std::move(*memory));
  unused_.erase(smaller, unused_.end());
}

void RoutingMemoryPool::reserve(int num_routings, const RoutingBounds& bounds) {
  const auto num_unused = [&] {
    const std::lock_guard lock(mutex_);
    return std::count_if(unused_.begin(), unused_.end(), [&](const auto& memory) { return memory->bounds.hold(bounds); });
  };
  for (auto i = num_unused(); i < num_routings; ++i) {
    auto memory = make(bounds);
    const std::lock_guard lock(mutex_);
    unused_.push_back(std::move(memory));
  }
}

std::shared_ptr<RoutingMemory> RoutingMemoryPool::take(const RoutingBounds& bounds, bool is_captured) {
  std::unique_ptr<RoutingMemory> memory;
  {
    const std::lock_guard lock(mutex_);
    const auto find = [&](bool was_captured) {
      return std::find_if(unused_.begin(), unused_.end(), [&](const auto& one) {
        return one->is_captured == was_captured && one->bounds.hold(bounds) && (!is_captured || one->order.is_over());
      });
    };
    auto found = find(is_captured);
    if (found == unused_.end() && is_captured) found = find(false);
    if (found != unused_.end()) {
      memory = std::move(*found);
      unused_.erase(found);
    }
  }
  if (memory == nullptr) memory = make(bounds);
  if (is_captured) memory->is_captured = true;
  const auto give_back = [pool = shared_from_this()](RoutingMemory* dropped) {
    const std::lock_guard lock(pool->mutex_);
    pool->unused_.emplace_back(dropped);
  };
  return {memory.release(), give_back};
}

}  // namespace tokenyard
