// Rank 0's side of the TCP exchange: the middle of the star.
#pragma once

#include <memory>
#include <vector>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard {

// Waits at the listeners for the other ranks. Closes the listeners when it returns or throws.
std::shared_ptr<Exchange> serve_tcp_exchange(std::vector<FileDescriptor> listeners, int num_ranks, const Deadline& deadline);

}  // namespace tokenyard
