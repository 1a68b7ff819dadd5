#include "tokenyard/exchange.hpp"

#include <cstring>
#include <limits>
#include <vector>

#include "capi/handles.hpp"
#include "capi/structs.hpp"
#include "capi/values.hpp"

using namespace tokenyard;
using namespace tokenyard::capi;

namespace {

TcpRendezvous read_rendezvous(const ty_tcp_rendezvous* given) {
  const ty_tcp_rendezvous read = read_struct(given, "rendezvous");
  if (read.port < 0 || read.port > std::numeric_limits<std::uint16_t>::max()) {
    fail_argument("rendezvous->port is {}: it must be from 0 to {}", read.port, std::numeric_limits<std::uint16_t>::max());
  }
  TcpRendezvous rendezvous;
  rendezvous.address = &required(read.address, "rendezvous->address");
  rendezvous.secret = read.secret == nullptr ? "" : read.secret;
  rendezvous.port = static_cast<std::uint16_t>(read.port);
  rendezvous.rank = read.rank;
  rendezvous.num_ranks = read.num_ranks;
  rendezvous.local_rank = read.local_rank;
  rendezvous.timeout = timeout_of(read.timeout_ms, "rendezvous->timeout_ms");
  rendezvous.listen_fd = read.listen_fd;
  return rendezvous;
}

// A gather function of the caller. An Exchange tells its own codes apart; what they do not know is a system error to it.
GatherBlocks gather_by(ty_gather_function gather, void* context) {
  return [gather, context](std::span<const std::byte> block, std::span<std::byte> blocks, std::chrono::milliseconds timeout) {
    forget_error();
    const ty_status status =
        gather(context, block.data(), block.size(), blocks.data(), static_cast<std::int32_t>(timeout.count()));
    if (status == TY_OK) return;
    try {
      throw_callback_error("the gather function", status);
    } catch (const CallbackError& error) {
      if (error.status() > TY_SYSTEM) throw;
      throw Error(static_cast<ErrorCode>(error.status() - 1), error.what());
    }
  };
}

}  // namespace

ty_status ty_exchange_create_threads(int32_t num_ranks, ty_exchange** exchanges) {
  return guarded([&] {
    required(exchanges, "exchanges");
    std::vector<std::unique_ptr<ty_exchange>> made;
    for (std::shared_ptr<Exchange>& exchange : make_thread_exchange(num_ranks)) {
      made.push_back(std::make_unique<ty_exchange>(std::move(exchange)));
    }
    for (std::size_t rank = 0; rank < made.size(); ++rank) exchanges[rank] = made[rank].release();
  });
}

ty_status ty_tcp_rendezvous_from_environment(ty_tcp_rendezvous* rendezvous) {
  return guarded([&] {
    thread_local TcpRendezvous found;  // holds the strings
    found = TcpRendezvous::from_environment();
    ty_tcp_rendezvous written = TY_TCP_RENDEZVOUS_INIT;
    written.address = found.address.c_str();
    written.secret = found.secret.c_str();
    written.port = found.port;
    written.rank = found.rank;
    written.num_ranks = found.num_ranks;
    written.local_rank = found.local_rank;
    written.timeout_ms = static_cast<std::int32_t>(found.timeout.count());
    written.listen_fd = found.listen_fd;
    write_struct(written, rendezvous, "rendezvous");
  });
}

ty_status ty_launcher_from_environment(const char** launcher) {
  return guarded([&] {
    const char*& written = required(launcher, "launcher");
    thread_local std::string found;
    found = TcpRendezvous::launcher_from_environment();
    written = found.c_str();
  });
}

ty_status ty_secret_from_environment(const char** secret) {
  return guarded([&] {
    const char*& written = required(secret, "secret");
    thread_local std::string found;
    found = TcpRendezvous::secret_from_environment();
    written = found.c_str();
  });
}

ty_status ty_exchange_create_tcp(const ty_tcp_rendezvous* rendezvous, ty_exchange** exchange) {
  return guarded_create(exchange, "exchange",
                        [&] { return std::make_unique<ty_exchange>(make_tcp_exchange(read_rendezvous(rendezvous))); });
}

ty_status ty_exchange_create_directory(const char* path, int32_t rank, int32_t num_ranks, const char* job, int32_t timeout_ms,
                                       ty_exchange** exchange) {
  return guarded_create(exchange, "exchange", [&] {
    return std::make_unique<ty_exchange>(make_directory_exchange(&required(path, "path"), rank, num_ranks,
                                                                 &required(job, "job"), timeout_of(timeout_ms, "timeout_ms")));
  });
}

ty_status ty_exchange_create_callback(int32_t rank, int32_t num_ranks, ty_gather_function gather, void* context,
                                      ty_exchange** exchange) {
  return guarded_create(exchange, "exchange", [&] {
    if (gather == nullptr) fail_argument("gather is NULL");
    return std::make_unique<ty_exchange>(make_callback_exchange(rank, num_ranks, gather_by(gather, context)));
  });
}

int32_t ty_exchange_rank(const ty_exchange* exchange) { return exchange == nullptr ? -1 : exchange->exchange->rank(); }
int32_t ty_exchange_num_ranks(const ty_exchange* exchange) {
  return exchange == nullptr ? -1 : exchange->exchange->num_ranks();
}

ty_status ty_exchange_all_gather(ty_exchange* exchange, const void* block, size_t block_bytes, void* blocks,
                                 int32_t timeout_ms) {
  return guarded([&] {
    Exchange& gathering = *required(exchange, "exchange").exchange;
    if (block_bytes != 0) {
      required(static_cast<const std::byte*>(block), "block");
      required(static_cast<std::byte*>(blocks), "blocks");
    }
    const auto gathered = gathering.all_gather(std::span(static_cast<const std::byte*>(block), block_bytes),
                                               timeout_of(timeout_ms, "timeout_ms"));
    for (std::size_t rank = 0; rank < gathered.size(); ++rank) {
      if (gathered[rank].size() == block_bytes) continue;
      throw Error({ErrorCode::kDisagreement, Phase::kNone, static_cast<int>(rank), gathering.rank()},
                  fmt::format("rank {} gave {} bytes to all_gather and this rank {}: all must give as many", rank,
                              gathered[rank].size(), block_bytes));
    }
    for (std::size_t rank = 0; rank < gathered.size() && block_bytes != 0; ++rank) {
      std::memcpy(static_cast<std::byte*>(blocks) + rank * block_bytes, gathered[rank].data(), block_bytes);
    }
  });
}

ty_status ty_exchange_barrier(ty_exchange* exchange, int32_t timeout_ms) {
  return guarded([&] { required(exchange, "exchange").exchange->barrier(timeout_of(timeout_ms, "timeout_ms")); });
}

void ty_exchange_destroy(ty_exchange* exchange) { delete exchange; }
