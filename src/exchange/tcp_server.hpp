// Rank 0's side of the TCP exchange: the middle of the star.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"
#include "exchange/crypto.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard {

// Waits at the listeners for the other ranks, which must prove that they know the secret if there is one. Closes the listeners
// when it returns or throws.
std::shared_ptr<Exchange> serve_tcp_exchange(std::vector<FileDescriptor> listeners, int num_ranks, std::optional<Key> secret,
                                             const Deadline& deadline);

}  // namespace tokenyard
