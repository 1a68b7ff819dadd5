// Memory of Routings on a GPU, and the pool that recycles it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "engine/cuda/stream_order.hpp"
#include "engine/routing_data.hpp"
#include "memory/memory_region.hpp"

namespace tokenyard {

// Bounds of a Routing's arrays.
struct RoutingBounds {
  std::int64_t max_tokens = 0;
  int max_fan_out = 0;
  int top_k = 0;
  int num_ranks = 0;
  int max_local_experts = 0;
  std::int64_t num_rows = 0;           // V
  bool is_expanded = false;            // an expert layout
  std::int64_t num_expanded_rows = 0;  // V'

  // Whether a Routing of `other` fits into memory for these.
  bool hold(const RoutingBounds& other) const;
};

struct RoutingMemory {
  RoutingBounds bounds;
  DeviceRouting arrays;
  std::shared_ptr<MemoryRegion> region;
  StreamOrder order;  // of all calls that use it
  // Launches of a graph use it, whoever holds it: calls that are not captured get it no more.
  std::atomic<bool> is_captured = false;
};

RoutingMemory& memory_of(const Routing::Data& routing);

// Of the calls that use `routing`, whose memory it keeps.
std::shared_ptr<StreamOrder> order_of(const Routing::Data& routing);

// Thread-safe: a Routing may be dropped anywhere, also after its plan.
class RoutingMemoryPool : public std::enable_shared_from_this<RoutingMemoryPool> {
 public:
  // `allocate` gives memory of the device.
  using Allocate = std::function<std::shared_ptr<MemoryRegion>(std::size_t num_bytes)>;
  explicit RoutingMemoryPool(Allocate allocate) : allocate_(std::move(allocate)) {}
  ~RoutingMemoryPool();
  RoutingMemoryPool(const RoutingMemoryPool&) = delete;
  RoutingMemoryPool& operator=(const RoutingMemoryPool&) = delete;

  // Lets go of unused memory that is too small for `bounds`.
  void drop_smaller(const RoutingBounds& bounds);
  // Makes memory for as many Routings to be taken without further allocation.
  void reserve(int num_routings, const RoutingBounds& bounds);
  // Goes back to the pool with its last copy. A call that is captured gets what calls before it were captured with, if it can,
  // and nothing that a call outside of the graph still uses.
  std::shared_ptr<RoutingMemory> take(const RoutingBounds& bounds, bool is_captured);

 private:
  std::unique_ptr<RoutingMemory> make(const RoutingBounds& bounds) const;

  Allocate allocate_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<RoutingMemory>> unused_;
};

}  // namespace tokenyard
