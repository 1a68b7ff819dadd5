#include "memory/memory_handle.hpp"

#include <utility>

#include "base/fail.hpp"

namespace tokenyard {
namespace {

template <class... Functions>
struct Overloaded : Functions... {
  using Functions::operator()...;
};

}  // namespace

const char* to_string(HandleKind kind) {
  switch (kind) {
    case HandleKind::kNone: return "none";
    case HandleKind::kDescriptor: return "descriptor";
    case HandleKind::kFabric: return "fabric";
    case HandleKind::kIpc: return "ipc";
  }
  return "unknown";
}

HandleKind kind_of(const MemoryHandle& handle) noexcept {
  return std::visit(Overloaded{
                        [](const FileDescriptor& fd) { return fd ? HandleKind::kDescriptor : HandleKind::kNone; },
                        [](const FabricHandle&) { return HandleKind::kFabric; },
                        [](const IpcHandle&) { return HandleKind::kIpc; },
                    },
                    handle);
}

int descriptor_of(const MemoryHandle& handle) noexcept {
  return std::visit(Overloaded{
                        [](const FileDescriptor& fd) { return fd.get(); },
                        [](const auto& with_lease) { return with_lease.lease.get(); },
                    },
                    handle);
}

HandleMessage message_of(std::uint64_t tag, std::uint64_t num_bytes, const MemoryHandle& handle) {
  HandleMessage message{.tag = tag, .num_bytes = num_bytes, .kind = static_cast<std::uint64_t>(kind_of(handle))};
  if (const auto* fabric = std::get_if<FabricHandle>(&handle)) message.bytes = fabric->bytes;
  if (const auto* ipc = std::get_if<IpcHandle>(&handle)) message.bytes = ipc->bytes;
  return message;
}

MemoryHandle handle_of(const HandleMessage& message, FileDescriptor fd) {
  constexpr auto kLast = static_cast<std::uint64_t>(HandleKind::kIpc);
  if (message.kind == 0 || message.kind > kLast) {
    fail(ErrorCode::kDisagreement, "a peer passed memory by a handle of kind {}: it does not run this version of the library",
         message.kind);
  }
  const auto kind = static_cast<HandleKind>(message.kind);
  if (!fd) {
    fail(ErrorCode::kDisagreement, "a peer passed memory by a handle of kind {}, and no descriptor came with it",
         to_string(kind));
  }
  switch (kind) {
    case HandleKind::kFabric: return FabricHandle{message.bytes, std::move(fd)};
    case HandleKind::kIpc: return IpcHandle{message.bytes, std::move(fd)};
    default: return fd;
  }
}

}  // namespace tokenyard
