// What a Window holds.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "group/device_verbs.hpp"
#include "memory/memory_region.hpp"
#include "tokenyard/window.hpp"
#include "transport/peers.hpp"

namespace tokenyard {

class Window::Impl {
 public:
  Impl(std::shared_ptr<Peers> peers, std::vector<std::shared_ptr<MemoryRegion>> regions, std::size_t num_bytes,
       std::unique_ptr<DeviceVerbs> device_verbs)
      : peers_(std::move(peers)), regions_(std::move(regions)), num_bytes_(num_bytes), device_verbs_(std::move(device_verbs)) {}

  // The first byte of [offset, offset + num_bytes) on `peer`; throws if it is not inside the window or cannot be reached.
  std::byte* at(int peer, std::size_t offset, std::size_t num_bytes) const;
  std::uint64_t* word(int peer, std::size_t offset) const;
  std::uint64_t load(const std::uint64_t* word) const;
  DeviceVerbs& on_device() const;  // throws if the window lies in host memory

  std::shared_ptr<Peers> peers_;
  std::vector<std::shared_ptr<MemoryRegion>> regions_;  // by rank
  std::size_t num_bytes_;
  std::unique_ptr<DeviceVerbs> device_verbs_;  // none in host memory
};

}  // namespace tokenyard
