// The other ranks' side of the TCP exchange.
#pragma once

#include <memory>

#include "base/deadline.hpp"
#include "exchange/connection.hpp"
#include "tokenyard/exchange.hpp"

namespace tokenyard {

// Finds rank 0, which may come up late, and says hello; returns once rank 0 has taken this rank in.
Connection join_rank_zero(const TcpRendezvous& rendezvous, const Deadline& deadline);

// Waits until all ranks have joined.
std::shared_ptr<Exchange> make_tcp_client(Connection connection, int rank, int num_ranks, const Deadline& deadline);

}  // namespace tokenyard
