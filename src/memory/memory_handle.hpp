// What another process needs to map memory of this one, and how it travels through a socket.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <variant>

#include "base/file_descriptor.hpp"
#include "memory/unix_socket.hpp"

namespace tokenyard {

enum class HandleKind : std::uint8_t {
  kNone,        // memory of this process alone
  kDescriptor,  // a file descriptor: host memory, and the GPU's where CUDA's virtual memory can be exported
  kFabric,      // a fabric handle: whoever may use the same IMEX channel, as far as NVLink goes
  kIpc,         // CUDA IPC
};

const char* to_string(HandleKind kind);  // "none", "descriptor", "fabric", "ipc"

using HandleBytes = std::array<std::byte, 64>;

// Bytes keep nothing alive. So each such handle holds an end of its owner's Lease: as long as it is open anywhere, the owner
// keeps the memory.
struct FabricHandle {
  HandleBytes bytes{};
  FileDescriptor lease{};
};
struct IpcHandle {
  HandleBytes bytes{};
  FileDescriptor lease{};
};

using MemoryHandle = std::variant<FileDescriptor, FabricHandle, IpcHandle>;

// kNone for a descriptor that is not open.
HandleKind kind_of(const MemoryHandle& handle) noexcept;

// The descriptor that travels with it; -1 for kNone.
int descriptor_of(const MemoryHandle& handle) noexcept;

// The message that offers `handle`; send it with descriptor_of(handle).
HandleMessage message_of(std::uint64_t tag, std::uint64_t num_bytes, const MemoryHandle& handle);

// What a peer offered by a message and the descriptor that came with it. Throws Error(kDisagreement) if they do not belong
// together, or the kind is unknown.
MemoryHandle handle_of(const HandleMessage& message, FileDescriptor fd);

}  // namespace tokenyard
