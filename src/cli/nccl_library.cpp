#include "cli/nccl_library.hpp"

#include <dlfcn.h>

#include "base/fail.hpp"

namespace tokenyard::cli {
namespace {

constexpr const char* kFile = "libnccl.so.2";

NcclLibrary load() {
  void* const library = dlopen(kFile, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    fail(ErrorCode::kUnsupported, "--against nccl: {}; install NCCL, or name the folder of its {} in LD_LIBRARY_PATH",
         dlerror(), kFile);
  }
  NcclLibrary calls{};
  const auto find = [library](const char* name, auto& call) {
    call = reinterpret_cast<std::remove_reference_t<decltype(call)>>(dlsym(library, name));
    if (call == nullptr) fail(ErrorCode::kUnsupported, "--against nccl: {} has no {}: a newer NCCL is needed", kFile, name);
  };
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
