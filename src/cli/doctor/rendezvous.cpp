// Where rank 0 is, by the launcher's variables, and whether this process could meet it there.
#include <fmt/core.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/deadline.hpp"
#include "base/file_descriptor.hpp"
#include "cli/doctor/probe_apart.hpp"
#include "cli/doctor/probes.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::chrono::milliseconds kTimeout{15'000};
constexpr std::chrono::milliseconds kConnectTimeout{3'000};
constexpr std::uint16_t kDefaultPort = 29500;

constexpr std::array kVariables{"RANK",
                                "WORLD_SIZE",
                                "LOCAL_RANK",
                                "MASTER_ADDR",
                                "MASTER_PORT",
                                "TOKENYARD_PORT",
                                "TORCHELASTIC_RUN_ID",
                                "TORCHELASTIC_USE_AGENT_STORE",
                                "OMPI_COMM_WORLD_RANK",
                                "OMPI_COMM_WORLD_SIZE",
                                "OMPI_COMM_WORLD_LOCAL_RANK",
                                "OMPI_COMM_WORLD_LOCAL_SIZE",
                                "SLURM_JOB_ID",
                                "SLURM_STEP_ID",
                                "SLURM_PROCID",
                                "SLURM_STEP_NUM_TASKS",
                                "SLURM_NTASKS",
                                "SLURM_LOCALID",
                                "SLURM_STEP_NODELIST",
                                "SLURM_JOB_NODELIST"};

std::string list_variables() {
  std::string text;
  for (const char* variable : kVariables) {
    const char* value = std::getenv(variable);
    if (value != nullptr) text += fmt::format("{}{}={}", text.empty() ? "" : " ", variable, value);
  }
  return text;
}

struct Place {
  std::string host;
  std::uint16_t port = 0;
  bool has_secret = false;
  bool is_ours = false;   // this process is rank 0
  bool is_known = false;  // a launcher's variables were read
};

struct Endpoint {
  sockaddr_storage storage{};
  socklen_t num_bytes = 0;
  std::string text;
  bool is_loopback = false;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

std::string error_text(int error) { return std::generic_category().message(error); }

std::vector<Endpoint> resolve(const Place& place, std::string& problem) {
  std::string host = place.host;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int status = getaddrinfo(host.c_str(), std::to_string(place.port).c_str(), &hints, &found);
  if (status != 0) {
    problem = gai_strerror(status);
    return {};
  }
  std::vector<Endpoint> endpoints;
  for (const addrinfo* entry = found; entry != nullptr; entry = entry->ai_next) {
    Endpoint endpoint;
    std::memcpy(&endpoint.storage, entry->ai_addr, entry->ai_addrlen);
    endpoint.num_bytes = entry->ai_addrlen;
    std::array<char, NI_MAXHOST> text{};
    getnameinfo(entry->ai_addr, entry->ai_addrlen, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST);
    endpoint.text = text.data();
    endpoint.is_loopback =
        endpoint.text.starts_with("127.") || endpoint.text == "::1" || endpoint.text.starts_with("::ffff:127.");
    endpoints.push_back(std::move(endpoint));
  }
  freeaddrinfo(found);
  if (endpoints.empty()) problem = "it has no address";
  return endpoints;
}

// 0, or why this process cannot have the address and port. Listens for no moment, so that nobody is misled.
int try_to_bind(const Endpoint& endpoint) {
  const FileDescriptor socket(::socket(endpoint.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return errno;
  const int yes = 1;
  setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  return bind(socket.get(), endpoint.get(), endpoint.num_bytes) == 0 ? 0 : errno;
}

int try_to_connect(const Endpoint& endpoint) {
  const FileDescriptor socket(::socket(endpoint.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return errno;
  if (connect(socket.get(), endpoint.get(), endpoint.num_bytes) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  pollfd entry{.fd = socket.get(), .events = POLLOUT, .revents = 0};
  if (poll(&entry, 1, static_cast<int>(kConnectTimeout.count())) <= 0) return ETIMEDOUT;
  int error = 0;
  socklen_t num_bytes = sizeof(error);
  getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &num_bytes);
  return error;
}

std::string ask_who_listens(std::uint16_t port) {
  return fmt::format("ss -ltnp 'sport = :{}' names the program; TOKENYARD_PORT chooses another port, the same for all ranks",
                     port);
}

void judge_port_of_this_host(SectionFindings& findings, const Place& place, const Endpoint& endpoint, int bind_error) {
  const std::string name = fmt::format("port {}", place.port);
  const std::string value = fmt::format("{} of {}", error_text(bind_error), endpoint.text);
  if (bind_error == 0) {
    findings.ok(name, "free on this host");
  } else if (place.is_ours) {
    findings.failure(name, fmt::format("rank 0 cannot have it: {}", error_text(bind_error)),
                     "another program, torchrun's own store for one, or an earlier job listens there",
                     ask_who_listens(place.port));
  } else {
    findings.warning(name, fmt::format("taken: {}", error_text(bind_error)), "a job runs there, or another program",
                     ask_who_listens(place.port));
  }
}

void judge_port_of_another_host(SectionFindings& findings, const Place& place, const Endpoint& endpoint) {
  const std::string name = fmt::format("port {}", place.port);
  const std::string where = fmt::format("{} port {}", endpoint.text, place.port);
  const std::string cure = fmt::format(
      "is the host up and the address right? Try nc -vz {} {} while rank 0 runs; a firewall must "
      "let the port through",
      place.host, place.port);
  if (place.is_ours) {
    findings.failure(name, fmt::format("{} is not of this host, where rank 0 is", endpoint.text),
                     "the other ranks look for rank 0 there", "set MASTER_ADDR to the host of rank 0, the same for all ranks");
    return;
  }
  const int error = try_to_connect(endpoint);
  if (error == 0) {
    findings.ok(name, "somebody listens there");
  } else if (error == ECONNREFUSED) {
    findings.ok(name, "the host answers; nobody listens at the moment");
  } else if (place.is_known) {
    findings.failure(name, fmt::format("{}: {}", where, error_text(error)), "this rank cannot reach rank 0", cure);
  } else {
    findings.warning(name, fmt::format("{}: {}", where, error_text(error)), "ranks on this host could not reach rank 0", cure);
  }
}

void judge_secret_for(SectionFindings& findings, const Place& place, bool is_loopback) {
  if (is_loopback) {
    findings.ok("admission", place.has_secret ? "loopback, and a secret" : "loopback needs no secret");
  } else if (place.has_secret) {
    findings.ok("admission", "by the secret");
  } else {
    const std::string value = fmt::format("'{}' is no loopback address, and there is no secret", place.host);
    const char* why = "without a secret only loopback is served or contacted";
    const char* cure =
        "export TOKENYARD_SECRET=$(head -c 32 /dev/urandom | base64), once, the same value on all hosts (mpirun -x "
        "TOKENYARD_SECRET); "
        "on one host alone MASTER_ADDR=127.0.0.1";
    if (place.is_known) {
      findings.failure("admission", value, why, cure);
    } else {
      findings.warning("admission", value, why, cure);
    }
  }
}

Findings look_at(const Place& place) {
  SectionFindings findings(Section::kRendezvous);
  std::string problem;
  const std::vector<Endpoint> endpoints = resolve(place, problem);
  if (endpoints.empty()) {
    findings.failure("address", fmt::format("'{}' does not resolve: {}", place.host, problem), "nobody can find rank 0 there",
                     fmt::format("correct MASTER_ADDR; getent hosts {} shows what this host makes of it", place.host));
    return findings.take();
  }
  std::string value = place.host;
  if (endpoints.front().text != place.host) value += " is " + endpoints.front().text;
  if (endpoints.size() > 1) value += fmt::format(" and {} more", endpoints.size() - 1);
  findings.ok("address", value);
  judge_secret_for(findings, place, std::all_of(endpoints.begin(), endpoints.end(), [](const Endpoint& endpoint) {
                     return endpoint.is_loopback;
                   }));

  // An address of this host can be bound, whatever happens to its port.
  const auto own = std::find_if(endpoints.begin(), endpoints.end(), [](const Endpoint& endpoint) {
    const int error = try_to_bind(endpoint);
    return error != EADDRNOTAVAIL && error != EAFNOSUPPORT;
  });
  if (own == endpoints.end()) {
    judge_port_of_another_host(findings, place, endpoints.front());
  } else if (place.is_ours || !place.is_known) {
    judge_port_of_this_host(findings, place, *own, try_to_bind(*own));
  }
  return findings.take();
}

// MASTER_ADDR and the port without a launcher, as ranks that one may be about to start would see them.
Place place_of_variables() {
  Place place;
  place.host = std::getenv("MASTER_ADDR");
  place.port = kDefaultPort;
  for (const char* variable : {"MASTER_PORT", "TOKENYARD_PORT"}) {
    const char* text = std::getenv(variable);
    if (text != nullptr) std::from_chars(text, text + std::strlen(text), place.port);
  }
  place.has_secret = std::getenv("TOKENYARD_SECRET") != nullptr || std::getenv("TOKENYARD_SECRET_FILE") != nullptr;
  return place;
}

}  // namespace

Findings probe_rendezvous(const LauncherReading& reading) {
  const auto& [launcher, launched, problem, is_secret_wrong, num_own_ranks] = reading;
  SectionFindings findings(Section::kRendezvous);
  const std::string variables = list_variables();
  std::optional<Place> place;
  if (launched) {
    findings.ok("launcher", fmt::format("{}: rank {} of {}, local rank {}", launcher, launched->rank, launched->num_ranks,
                                        launched->local_rank));
    place = Place{.host = launched->address,
                  .port = launched->port,
                  .has_secret = !launched->secret.empty(),
                  .is_ours = launched->rank == 0,
                  .is_known = true};
  } else if (is_secret_wrong && !launcher.empty()) {
    findings.not_applicable("launcher",
                            fmt::format("{}'s variables are there, but cannot be used without a good secret", launcher));
  } else if (!launcher.empty()) {
    findings.failure("launcher", problem, fmt::format("this process cannot be a rank of {}", launcher),
                     "correct what is named, or unset the variables to run without a launcher");
  } else {
    findings.ok("launcher",
                fmt::format("none; doctor starts {} rank{} on this host", num_own_ranks, num_own_ranks == 1 ? "" : "s"));
    if (std::getenv("MASTER_ADDR") != nullptr) place = place_of_variables();
  }
  if (!variables.empty()) findings.ok("variables", variables);
  Findings all = findings.take();
  if (!place) return all;
  append(all, probe_apart([&] { return look_at(*place); }, kTimeout,
                          [&](const std::string& loss) {
                            SectionFindings lost(Section::kRendezvous);
                            lost.failure("address", fmt::format("'{}': {}", place->host, loss),
                                         "the system's resolver does not answer",
                                         fmt::format("getent hosts {} shows it; see /etc/resolv.conf, or use a numeric address",
                                                     place->host));
                            return lost.take();
                          }));
  return all;
}

}  // namespace tokenyard::cli
