#include "cli/nccl_library.hpp"

#include "base/fail.hpp"
#include "cli/dynamic_library.hpp"

namespace tokenyard::cli {
namespace {

constexpr const char* kFile = "libnccl.so.2";

NcclLibrary load() {
  const DynamicLibrary library(kFile);
  if (!library.is_loaded()) {
    fail(ErrorCode::kUnsupported, "--against nccl: {}; install NCCL, or name the folder of its {} in LD_LIBRARY_PATH",
         library.reason(), kFile);
  }
  NcclLibrary calls{};
  const auto find = [&](const char* name, auto& call) { library.find(name, "--against nccl", &call); };
  find("ncclGetVersion", calls.get_version);
  find("ncclGetUniqueId", calls.get_unique_id);
  find("ncclCommInitRank", calls.init_rank);
  find("ncclCommDestroy", calls.destroy);
  find("ncclGroupStart", calls.group_start);
  find("ncclGroupEnd", calls.group_end);
  find("ncclSend", calls.send);
  find("ncclRecv", calls.receive);
  find("ncclGetErrorString", calls.error_text);
  return calls;
}

}  // namespace

void NcclLibrary::check(int result, const char* call) const {
  if (result == 0) return;
  fail(ErrorCode::kSystem, "{} failed: {} ({}); NCCL_DEBUG=INFO says more", call, error_text(result), result);
}

const NcclLibrary& nccl_library() {
  static const NcclLibrary library = load();
  return library;
}

}  // namespace tokenyard::cli
