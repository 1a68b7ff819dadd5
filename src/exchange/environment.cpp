// What a launcher says through environment variables.
#include <fmt/core.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/fail.hpp"
#include "base/log.hpp"
#include "tokenyard/exchange.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard {
namespace {

constexpr const char* kSample = "RANK=0 WORLD_SIZE=2 LOCAL_RANK=0 MASTER_ADDR=10.0.0.1 MASTER_PORT=29500";
constexpr int kMaxPort = 65535;

bool is_set(const char* variable) { return std::getenv(variable) != nullptr; }

std::string text_of(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) {
    fail_argument("{} is not set. Start the ranks with torchrun, or set the variables yourself; for the first of two ranks: {}",
                  variable, kSample);
  }
  if (*text == '\0') fail_argument("{} is set but empty. A right setting: {}", variable, kSample);
  return text;
}

int number_of(const char* variable, int least, int most) {
  const std::string text = text_of(variable);
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < least || number > most) {
    fail_argument("{}='{}': it must be a whole number from {} to {}. A right setting: {}", variable, text, least, most,
                  kSample);
  }
  return number;
}

// Python's spelling is True; people write true and 1.
bool is_true(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return false;
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower == "true" || lower == "1";
}

struct Port {
  int number;
  std::string origin;
};

Port port_from_environment() {
  if (is_set("TOKENYARD_PORT")) return {number_of("TOKENYARD_PORT", 1, kMaxPort), "TOKENYARD_PORT"};
  const int port = number_of("MASTER_PORT", 1, kMaxPort);
  if (!is_true("TORCHELASTIC_USE_AGENT_STORE")) return {port, "MASTER_PORT"};
  if (port == kMaxPort) {
    fail_argument(
        "MASTER_PORT={} is taken by torchrun's own store (TORCHELASTIC_USE_AGENT_STORE), and there is no next port: "
        "set TOKENYARD_PORT, 29501 say, for all ranks",
        port);
  }
  return {port + 1,
          fmt::format("MASTER_PORT={} plus 1: torchrun's own store has that one, TORCHELASTIC_USE_AGENT_STORE says", port)};
}

}  // namespace

TcpRendezvous TcpRendezvous::from_environment() {
  TcpRendezvous rendezvous;
  rendezvous.num_ranks = number_of("WORLD_SIZE", 1, kMaxRanks);
  rendezvous.rank = number_of("RANK", 0, rendezvous.num_ranks - 1);
  rendezvous.local_rank = number_of("LOCAL_RANK", 0, rendezvous.num_ranks - 1);
  rendezvous.address = text_of("MASTER_ADDR");
  const Port port = port_from_environment();
  rendezvous.port = static_cast<std::uint16_t>(port.number);
  log(LogLevel::kInfo,
      fmt::format("from the environment: rank {} (RANK) of {} (WORLD_SIZE), local rank {} (LOCAL_RANK); rank 0 is at {} "
                  "(MASTER_ADDR), port {} ({})",
                  rendezvous.rank, rendezvous.num_ranks, rendezvous.local_rank, rendezvous.address, port.number, port.origin));
  return rendezvous;
}

}  // namespace tokenyard
