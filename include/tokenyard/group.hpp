// The ranks that work together.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "tokenyard/error.hpp"
#include "tokenyard/exchange.hpp"
#include "tokenyard/plan.hpp"
#include "tokenyard/window.hpp"

namespace tokenyard {

enum class Waiting : std::uint8_t {
  kAuto,   // kSpin while this host has a core for each of its ranks (by affinity; CPU quotas are not seen), else kYield
  kSpin,   // poll with a pause instruction, and yield only after a while
  kYield,  // give the core away at once
};

// GroupOptions::device: the one whose number is this process's rank on its host, as the launcher says (LOCAL_RANK of torchrun,
// OMPI_COMM_WORLD_LOCAL_RANK, SLURM_LOCALID); 0 without a launcher, and where the process sees one GPU only.
inline constexpr int kLocalDevice = -1;

struct GroupOptions {
  // Of every wait, unless a call gives its own. Finding out who keeps whom waiting may take some seconds more.
  std::chrono::milliseconds timeout{30'000};
  // Ranks with equal numbers that can map each other's memory form a domain; unset, all ranks of a host do.
  std::optional<int> domain{};
  Waiting waiting = Waiting::kAuto;

  // Unset: ranks keep windows in host memory. Set, on all ranks or none: in memory of this GPU, a number among those that the
  // process sees, or kLocalDevice. Tensors that are given to calls must then be memory that this GPU can reach, and those that
  // calls return are on it. Several ranks may share one GPU if the kernels that wait for each other fit on it together:
  // docs/gpu.md says what that takes. Error(kInvalidArgument) for a GPU that is not there, Error(kUnsupported) without a driver
  // or in a build without CUDA.
  std::optional<int> device{};
  // GPUs: that a call may occupy unless it says otherwise. 0: 16, or fewer where many ranks share the GPU.
  int num_sms = 0;
  // GPUs, on all ranks or none: plans with Overflow::kGrow hold memory without which their calls cannot ask for
  // Copies::kEngine: for as many rows as a rank can send to others, in each slot, once for a dispatch and once for a combine
  // (compact layout).
  bool copy_engines = false;
};

// Copies share the group. One thread at a time makes windows and plans, in the same order on all ranks; different plans may
// then be used by different threads. Letting go of a group never blocks; peers that still wait for this rank then learn that
// it has left.
class Group {
 public:
  // Collective, blocking. The group keeps the Exchange. Throws Error: kTimeout, kPeerLost and kDisagreement name a rank,
  // kSystem what the host refused; for a device, as GroupOptions::device says.
  static Group create(std::shared_ptr<Exchange> exchange, const GroupOptions& options = {});

  int rank() const noexcept;
  int num_ranks() const noexcept;
  int num_domains() const noexcept;
  int domain_of(int rank) const noexcept;  // numbered from 0 in the order of their first ranks; -1: no such rank
  std::chrono::milliseconds timeout() const noexcept;
  std::optional<int> device() const noexcept;  // a number among the GPUs that this process sees

  // Collective, blocking. `num_bytes` must be the same on all ranks (kDisagreement otherwise). On GPUs it takes memory of the
  // GPU, as plan() does.
  Window window(std::size_t num_bytes) const;

  // Collective, blocking. Throws Error(kInvalidArgument) for a shape that cannot be, and Error(kDisagreement) naming ranks and
  // fields where the ranks' shapes differ; nothing is left behind in either case. On GPUs it takes memory, which waits for
  // kernels of the device: make plans while no kernel waits for another rank. Error(kUnsupported) there for latency mode.
  Plan plan(const Shape& shape) const;

  // Collective, blocking, for hosts alone: streams go on. Throws Error: kTimeout and kPeerLost name a rank, kDisagreement where
  // ranks made different calls.
  void barrier() const;

  // The first failure of the group since it was made or recovered, without blocking or synchronising. On GPUs calls return
  // before they are done, so this is where their failures are seen: what a call delivers is right if, once it is over, there is
  // none.
  std::optional<Failure> status() const noexcept;

  // Collective, blocking: every rank has seen the failure and goes on. Live results and Routings made before it become stale.
  // On GPUs it waits for the calls that are under way; wait for launched graphs before, which may be launched again behind it.
  // With a dead rank this throws like any other call; make a new group of the survivors then. All ranks must call it within the
  // group's timeout of each other: a round of the Exchange that is missed ends the Exchange, and a new one is needed.
  void recover() const;

  class Impl;
  explicit Group(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

 private:
  std::shared_ptr<Impl> impl_;
};

}  // namespace tokenyard
