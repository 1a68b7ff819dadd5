// The other ranks' side of the TCP exchange.
#pragma once

#include <memory>
#include <optional>

#include "base/deadline.hpp"
#include "exchange/connection.hpp"
#include "exchange/crypto.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard {

// Finds rank 0, which may come up late, and says hello; returns once rank 0 has taken this rank in and, if there is a secret,
// has proved that it knows it.
Connection join_rank_zero(const TcpRendezvous& rendezvous, const std::optional<Key>& secret, const Deadline& deadline);

// Waits until all ranks have joined.
std::shared_ptr<Exchange> make_tcp_client(Connection connection, int rank, int num_ranks, const Deadline& deadline);

}  // namespace tokenyard
