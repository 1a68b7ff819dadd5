// Rank 0's listening sockets.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/file_descriptor.hpp"

namespace tokenyard {

// Listens where the others look for `address`: a loopback address or "localhost" is served on loopback alone; for any other
// address all interfaces are, because a host often cannot tell under which of its addresses others know it. Throws
// Error(kSystem).
std::vector<FileDescriptor> listen_for(const std::string& address, std::uint16_t port);

// Takes over a listening TCP socket that a launcher made. Throws Error(kInvalidArgument), and leaves `fd` alone, if it is none.
FileDescriptor adopt_listener(int fd);

}  // namespace tokenyard
