// The few calls of NCCL that a comparison needs, found at run time: nothing of it is needed to build or to start.
#pragma once

#include <array>
#include <cstddef>

#include "tokenyard/execution.hpp"

namespace tokenyard::cli {

// As NCCL's documentation describes them.
struct NcclUniqueId {
  std::array<char, 128> bytes{};
};
struct NcclCommunicator;  // NCCL's own
inline constexpr int kNcclUint8 = 1;

struct NcclLibrary {
  int (*get_version)(int* version);
  int (*get_unique_id)(NcclUniqueId* id);
  int (*init_rank)(NcclCommunicator** communicator, int num_ranks, NcclUniqueId id, int rank);
  int (*destroy)(NcclCommunicator* communicator);
  int (*group_start)();
  int (*group_end)();
  int (*send)(const void* buffer, std::size_t count, int type, int peer, NcclCommunicator* communicator, Stream stream);
  int (*receive)(void* buffer, std::size_t count, int type, int peer, NcclCommunicator* communicator, Stream stream);
  const char* (*error_text)(int result);

  // Throws Error(kSystem) with NCCL's words unless `result` is success; `call` names what returned it.
  void check(int result, const char* call) const;
};

// Loads libnccl.so.2 for good. Throws Error(kUnsupported), which says what to install, where there is none.
const NcclLibrary& nccl_library();

}  // namespace tokenyard::cli
