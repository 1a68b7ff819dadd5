#include <map>
#include <mutex>
#include <set>
#include <utility>

#include "base/fail.hpp"
#include "memory/device_region.hpp"
#include "transport/handle_channel.hpp"

namespace tokenyard {
namespace {

// What the thread ranks of one group share.
struct Hub {
  struct Offer {
    std::shared_ptr<MemoryRegion> region;
    int num_takers;  // members that have not collected it yet
  };
  std::mutex mutex;
  std::map<std::pair<int, std::uint64_t>, Offer> offers;  // by (publisher, tag)
  std::set<int> gone;
};

// The first rank of a group makes its hub, the others find it, and it goes with the last of them.
std::shared_ptr<Hub> hub_of(std::uint64_t token) {
  static std::mutex mutex;
  static std::map<std::uint64_t, std::weak_ptr<Hub>> hubs;
  const std::lock_guard lock(mutex);
  std::erase_if(hubs, [](const auto& entry) { return entry.second.expired(); });
  std::shared_ptr<Hub> hub = hubs[token].lock();
  if (hub == nullptr) hubs[token] = hub = std::make_shared<Hub>();
  return hub;
}

class ThreadChannel final : public HandleChannel {
 public:
  ThreadChannel(std::uint64_t token, int rank, std::vector<int> members)
      : HandleChannel(rank, std::move(members)), hub_(hub_of(token)) {}

  ~ThreadChannel() override {
    const std::lock_guard lock(hub_->mutex);
    hub_->gone.insert(rank());
  }

  std::shared_ptr<MemoryRegion> allocate(std::size_t num_bytes, const MemoryPlace& place) override {
    return place.on_device() ? make_device_region(num_bytes, place) : MemoryRegion::anonymous(num_bytes);
  }

  void publish(std::uint64_t tag, const std::shared_ptr<MemoryRegion>& region, const Deadline&) override {
    const int num_takers = static_cast<int>(members().size()) - 1;
    if (num_takers == 0) return;
    const std::lock_guard lock(hub_->mutex);
    hub_->offers[{rank(), tag}] = {region, num_takers};
  }

  std::shared_ptr<MemoryRegion> try_collect(int peer, std::uint64_t tag, std::size_t num_bytes,
                                            const MemoryPlace& place) override {
    const std::lock_guard lock(hub_->mutex);
    const auto entry = hub_->offers.find({peer, tag});
    if (entry == hub_->offers.end()) return nullptr;
    std::shared_ptr<MemoryRegion> region = entry->second.region;
    if (--entry->second.num_takers == 0) hub_->offers.erase(entry);
    if (region->num_bytes() != num_bytes) {
      fail(ErrorCode::kDisagreement, "rank {} passed {} bytes of memory where {} were expected", peer, region->num_bytes(),
           num_bytes);
    }
    if (region->place().on_device() != place.on_device()) {
      fail(ErrorCode::kDisagreement, "rank {} passed {} memory where {} memory was expected", peer,
           place.on_device() ? "host" : "device", place.on_device() ? "device" : "host");
    }
    return region;
  }

  bool is_gone(int peer) const override {
    const std::lock_guard lock(hub_->mutex);
    return hub_->gone.contains(peer);
  }

 private:
  std::shared_ptr<Hub> hub_;
};

}  // namespace

std::unique_ptr<HandleChannel> make_thread_channel(std::uint64_t token, int rank, std::vector<int> members) {
  return std::make_unique<ThreadChannel>(token, rank, std::move(members));
}

}  // namespace tokenyard
