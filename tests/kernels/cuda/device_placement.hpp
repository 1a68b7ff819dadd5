// A placement's table on the device.
#pragma once

#include "kernels/cuda/count.hpp"
#include "tests/kernels/cuda/device_array.hpp"

namespace tokenyard::test {

class DevicePlacement {
 public:
  explicit DevicePlacement(const Placement& placement) : num_experts_(placement.num_experts()) {
    std::vector<Replica> replicas;
    std::vector<std::int32_t> first_replica{0};
    for (int expert = 0; expert < num_experts_; ++expert) {
      for (const Replica& replica : placement.replicas(expert)) replicas.push_back(replica);
      first_replica.push_back(static_cast<std::int32_t>(replicas.size()));
    }
    replicas_ = DeviceArray<Replica>(replicas);
    first_replica_ = DeviceArray<std::int32_t>(first_replica);
  }

  cuda::PlacementView view() const {
    return {.num_experts = num_experts_, .replicas = replicas_.data(), .first_replica = first_replica_.data()};
  }

 private:
  int num_experts_;
  DeviceArray<Replica> replicas_;
  DeviceArray<std::int32_t> first_replica_;
};

}  // namespace tokenyard::test
