// What a launcher says through environment variables.
#include <fmt/core.h>

#include "base/log.hpp"
#include "exchange/environment_variable.hpp"
#include "exchange/launcher.hpp"
#include "exchange/secret.hpp"
#include "tokenyard/exchange.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard {

std::string TcpRendezvous::secret_from_environment() { return secret_of_environment().secret; }

std::string TcpRendezvous::launcher_from_environment() {
  const char* name = name_of_launcher();
  return name == nullptr ? "" : name;
}

int TcpRendezvous::local_rank_from_environment() {
  if (name_of_launcher() == nullptr) return 0;
  const Launcher launcher = find_launcher();
  return static_cast<int>(number_of(launcher.local_rank_variable, 0, kMaxRanks - 1, launcher.advice));
}

TcpRendezvous TcpRendezvous::from_environment() {
  const Launcher launcher = find_launcher();
  const auto number = [&](const char* variable, int least, int most) {
    return static_cast<int>(
        number_of(variable, static_cast<std::uint64_t>(least), static_cast<std::uint64_t>(most), launcher.advice));
  };
  TcpRendezvous rendezvous;
  rendezvous.num_ranks = number(launcher.num_ranks_variable, 1, kMaxRanks);
  rendezvous.rank = number(launcher.rank_variable, 0, rendezvous.num_ranks - 1);
  rendezvous.local_rank = number(launcher.local_rank_variable, 0, rendezvous.num_ranks - 1);
  Address address = address_of_rank_zero(launcher);
  rendezvous.address = std::move(address.text);
  const Port port = port_of_rank_zero(launcher);
  rendezvous.port = port.number;
  SecretSource secret = secret_of_environment();
  rendezvous.secret = std::move(secret.secret);
  log(LogLevel::kInfo,
      fmt::format("from the environment, as {} sets it: rank {} ({}) of {} ({}), local rank {} ({}); rank 0 is at {} ({}), "
                  "port {} ({}); {}",
                  launcher.name, rendezvous.rank, launcher.rank_variable, rendezvous.num_ranks, launcher.num_ranks_variable,
                  rendezvous.local_rank, launcher.local_rank_variable, rendezvous.address, address.origin, port.number,
                  port.origin, rendezvous.secret.empty() ? "no secret" : "the secret is that of " + secret.origin));
  return rendezvous;
}

}  // namespace tokenyard
