// One round of tries to reach rank 0.
#pragma once

#include <string>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard {

// Tries every address that rank 0's host has; without a secret only loopback addresses, and a name that has another is an
// Error(kInvalidArgument). Returns nothing, and why, when none can be reached now.
FileDescriptor connect_to_rank_zero(const TcpRendezvous& rendezvous, const Deadline& deadline, std::string& problem);

}  // namespace tokenyard
