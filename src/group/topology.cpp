#include "group/topology.hpp"

#include <sched.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <mutex>
#include <set>
#include <string>

#include "base/fail.hpp"
#include "base/fingerprint.hpp"
#include "base/log.hpp"
#include "memory/gpus.hpp"
#include "memory/handle_offers.hpp"
#include "memory/unix_socket.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard {
namespace {

std::uint64_t random_word() {
  std::uint64_t word;
  if (getrandom(&word, sizeof(word), 0) != sizeof(word)) fail_system("getrandom");
  return word;
}

// What a rank tells the others about itself. Sent as it lies in memory.
struct Introduction {
  std::uint32_t wire_version;
  std::int32_t domain;  // GroupOptions::domain, or -1
  std::uint64_t group_token;
  std::uint64_t process;  // random, one per process
  std::uint64_t host;     // equal for ranks that can reach each other's sockets: same boot, same network namespace, same user
  std::uint64_t boot;     // equal for ranks of one machine
  std::array<char, 64> socket_name;
  std::int32_t device;        // GroupOptions::device by its number in this rank's process, or -1: host memory
  std::int32_t copy_engines;  // GroupOptions::copy_engines
  GpuId gpu;                  // of the device
  cpu_set_t cores;            // that this rank may run on
};

std::uint64_t hash_text(const std::string& text) {
  Fingerprint fingerprint;
  for (const char letter : text) fingerprint.mix(static_cast<unsigned char>(letter));
  return fingerprint.value();
}

// A random number that a forked child does not share with its parent and siblings.
std::uint64_t process_number() {
  static std::mutex mutex;
  static pid_t owner = 0;
  static std::uint64_t number = 0;
  const std::lock_guard lock(mutex);
  if (owner != getpid()) number = random_word();
  owner = getpid();
  return number;
}

// The GPU that the options ask for; -1: none.
int choose_device(const GroupOptions& options) {
  if (!options.device.has_value()) {
    if (options.num_sms != 0)
      fail_argument("num_sms is {}, but the group has no device: set GroupOptions::device", options.num_sms);
    if (options.copy_engines) fail_argument("copy_engines is set, but the group has no device: set GroupOptions::device");
    return -1;
  }
  const bool is_local = *options.device == kLocalDevice;
  const int limit = num_devices();
  int device = *options.device;
  if (is_local) device = limit == 1 ? 0 : TcpRendezvous::local_rank_from_environment();
  if (device < 0 || device >= limit) {
    fail_argument(
        "GroupOptions::device is {}{} and this process sees {} GPUs: name one of them, or look at CUDA_VISIBLE_DEVICES", device,
        is_local ? " (the local rank that the launcher gives)" : "", limit);
  }
  const int num_sms = describe_gpu(device).num_sms;
  if (options.num_sms < 0 || options.num_sms > num_sms) {
    fail_argument("num_sms is {} and GPU {} has {}: give 1 to {}, or 0 for a choice", options.num_sms, device, num_sms,
                  num_sms);
  }
  return device;
}

// Ranks that are to take a GPU each take the first one where nothing tells them apart.
void warn_of_shared_gpu(const GroupOptions& options, int rank, const std::vector<Introduction>& all) {
  if (options.device != kLocalDevice) return;
  for (int peer = 0; peer < rank; ++peer) {
    if (all[peer].process == all[rank].process || all[peer].gpu != all[rank].gpu) continue;
    log(LogLevel::kWarning,
        fmt::format(
            "ranks {} and {} of this host share GPU {}, which is slow: let a launcher say which local rank each has, or "
            "give each a GroupOptions::device or a CUDA_VISIBLE_DEVICES of its own",
            peer, rank, all[rank].device));
    return;
  }
}

// By which handles this rank's memory goes to other processes; kNone, and why, if by none.
HandleKind find_handle(int device, HandleKind wanted, std::string* obstacle) {
  try {
    return choose_handle(handle_offers(device), wanted);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kUnsupported) throw;
    *obstacle = error.what();
    return HandleKind::kNone;
  }
}

Introduction introduce(const GroupOptions& options, int device, const std::string& socket_name) {
  Introduction mine{};
  mine.device = device;
  mine.copy_engines = options.copy_engines ? 1 : 0;
  if (device >= 0) mine.gpu = describe_gpu(device).id;
  mine.wire_version = kWireVersion;
  mine.domain = options.domain.value_or(-1);
  mine.group_token = random_word();
  mine.process = process_number();
  std::string boot_id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot_id;
  struct stat network{};
  stat("/proc/self/ns/net", &network);
  mine.boot = hash_text(boot_id);
  mine.host = hash_text(fmt::format("{} {} {}", boot_id, network.st_ino, geteuid()));
  std::memcpy(mine.socket_name.data(), socket_name.data(), std::min(socket_name.size(), mine.socket_name.size() - 1));
  sched_getaffinity(0, sizeof(mine.cores), &mine.cores);
  return mine;
}

template <class T>
std::vector<T> gather(Exchange& exchange, const T& mine, std::chrono::milliseconds timeout) {
  const auto parts = exchange.all_gather(std::as_bytes(std::span(&mine, 1)), timeout);
  std::vector<T> all(parts.size());
  for (std::size_t rank = 0; rank < parts.size(); ++rank) {
    if (parts[rank].size() != sizeof(T)) {
      fail(ErrorCode::kDisagreement, "rank {} introduced itself with {} bytes where {} were expected: it runs another version",
           rank, parts[rank].size(), sizeof(T));
    }
    std::memcpy(&all[rank], parts[rank].data(), sizeof(T));
  }
  return all;
}

bool may_share(const Introduction& a, const Introduction& b) {
  if (a.domain != b.domain) return false;
  return a.process == b.process || a.host == b.host;
}

// Why the GPU of this rank cannot reach that of another; empty if it can. A GPU that this process does not see may still be
// reached through a handle, so that is tried.
std::string find_obstacle(const Introduction& mine, const Introduction& peer) {
  if (mine.device < 0) return "";
  const int owner = peer.process == mine.process ? peer.device : find_device(peer.gpu);
  return owner < 0 ? "" : peer_access(mine.device, owner).reason;
}

// Each rank joins the first domain all of whose ranks it can reach.
std::vector<int> partition(int num_ranks, const std::vector<std::vector<bool>>& reaches) {
  std::vector<std::vector<int>> domains;
  std::vector<int> domain_of(num_ranks);
  for (int rank = 0; rank < num_ranks; ++rank) {
    const auto fits = [&](const std::vector<int>& domain) {
      return std::all_of(domain.begin(), domain.end(), [&](int member) { return reaches[rank][member]; });
    };
    const auto found = std::find_if(domains.begin(), domains.end(), fits);
    domain_of[rank] = static_cast<int>(found - domains.begin());
    if (found == domains.end()) {
      domains.push_back({rank});
    } else {
      found->push_back(rank);
    }
  }
  return domain_of;
}

WaitStyle choose_wait_style(Waiting wanted, int rank, const std::vector<Introduction>& all) {
  if (wanted == Waiting::kSpin) return WaitStyle::kSpin;
  if (wanted == Waiting::kYield) return WaitStyle::kYield;
  cpu_set_t cores;
  CPU_ZERO(&cores);
  int num_local_ranks = 0;
  for (const Introduction& peer : all) {
    if (peer.boot != all[rank].boot) continue;
    ++num_local_ranks;
    CPU_OR(&cores, &cores, &peer.cores);
  }
  return num_local_ranks <= CPU_COUNT(&cores) ? WaitStyle::kSpin : WaitStyle::kYield;
}

// Sockets between this rank and those that it may share memory with, empty where no connection could be made. Lower ranks
// listen, higher ones connect; everybody listens before anybody connects, since the introductions lie in between.
std::vector<FileDescriptor> connect_all(Exchange& exchange, const FileDescriptor& listener,
                                        const std::vector<Introduction>& all, std::chrono::milliseconds timeout) {
  const int rank = exchange.rank();
  const int num_ranks = exchange.num_ranks();
  const Deadline deadline(timeout);
  std::vector<FileDescriptor> sockets(num_ranks);
  std::vector<std::byte> connected(num_ranks, std::byte{0});
  for (int peer = 0; peer < rank; ++peer) {
    if (!may_share(all[rank], all[peer])) continue;
    sockets[peer] = connect_unix(all[peer].socket_name.data(), deadline);
    if (!sockets[peer]) continue;
    // The first message says who connects; the token keeps strangers out.
    const HandleMessage hello{static_cast<std::uint64_t>(rank), all[0].group_token};
    connected[peer] = std::byte{send_handle(sockets[peer].get(), hello, -1) == SocketResult::kDone};
  }
  const auto by_rank = exchange.all_gather(connected, timeout);
  const auto first_missing = [&] {
    int peer = rank + 1;
    while (peer < num_ranks && (by_rank[peer][rank] == std::byte{0} || sockets[peer])) ++peer;
    return peer;
  };
  while (first_missing() < num_ranks) {
    FileDescriptor socket = accept_unix(listener.get(), deadline);
    if (!socket) {
      throw Error(Failure{ErrorCode::kTimeout, Phase::kMapping, first_missing(), rank},
                  fmt::format("rank {}: the socket of rank {} of this host did not arrive within {} ms", rank, first_missing(),
                              timeout.count()));
    }
    HandleMessage hello;
    FileDescriptor unused;
    const auto result = receive_handle(socket.get(), &hello, &unused, deadline);
    const bool is_peer = result == SocketResult::kDone && hello.num_bytes == all[0].group_token &&
                         hello.tag > static_cast<std::uint64_t>(rank) && hello.tag < static_cast<std::uint64_t>(num_ranks) &&
                         !sockets[hello.tag];
    if (!is_peer) continue;
    sockets[hello.tag] = std::move(socket);
  }
  return sockets;
}

}  // namespace

Topology detect_topology(Exchange& exchange, const GroupOptions& options) {
  const int rank = exchange.rank();
  const int num_ranks = exchange.num_ranks();
  const int device = choose_device(options);
  const HandleKind wanted = device >= 0 ? wanted_handle() : HandleKind::kNone;
  std::string socket_name;
  const FileDescriptor listener = listen_unix(&socket_name);
  const std::vector<Introduction> all = gather(exchange, introduce(options, device, socket_name), options.timeout);
  for (int peer = 0; peer < num_ranks; ++peer) {
    if (all[peer].wire_version != kWireVersion) {
      fail(ErrorCode::kDisagreement, "rank {} speaks version {} of the wire format, this rank version {}: install one release",
           peer, all[peer].wire_version, kWireVersion);
    }
  }
  for (int peer = 0; peer < num_ranks; ++peer) {
    if ((all[peer].device < 0) == (device < 0)) continue;
    throw Error(Failure{ErrorCode::kDisagreement, Phase::kNone, peer, rank},
                fmt::format("rank {} {} and rank {} {}: set GroupOptions::device on all ranks or on none", rank,
                            device < 0 ? "has no device" : "has a GPU", peer, device < 0 ? "has a GPU" : "has no device"));
  }
  for (int peer = 0; peer < num_ranks; ++peer) {
    if ((all[peer].copy_engines != 0) == options.copy_engines) continue;
    throw Error(
        Failure{ErrorCode::kDisagreement, Phase::kNone, peer, rank},
        fmt::format(
            "of ranks {} and {}, rank {} alone asks for copy engines: set GroupOptions::copy_engines on all ranks or on none",
            std::min(rank, peer), std::max(rank, peer), options.copy_engines ? rank : peer));
  }

  if (device >= 0) warn_of_shared_gpu(options, rank, all);

  // If all ranks that may share memory are threads of one process, pointers do; otherwise descriptors pass through sockets.
  const bool all_threads = std::all_of(all.begin(), all.end(), [&](const Introduction& a) {
    return std::all_of(all.begin(), all.end(),
                       [&](const Introduction& b) { return !may_share(a, b) || a.process == b.process; });
  });
  std::vector<FileDescriptor> sockets(num_ranks);
  if (!all_threads) sockets = connect_all(exchange, listener, all, options.timeout);

  Topology topology;
  std::string handle_obstacle;
  if (device >= 0 && !all_threads) topology.place.handle = find_handle(device, wanted, &handle_obstacle);

  std::vector<std::byte> reached(num_ranks, std::byte{0});
  std::vector<std::string> obstacles(num_ranks);  // by peer
  for (int peer = 0; peer < num_ranks; ++peer) {
    if (!may_share(all[rank], all[peer])) continue;
    const bool is_connected = all_threads || peer == rank || sockets[peer];
    obstacles[peer] = is_connected ? find_obstacle(all[rank], all[peer]) : "no socket connects them";
    if (obstacles[peer].empty() && peer != rank) obstacles[peer] = handle_obstacle;
    reached[peer] = std::byte{obstacles[peer].empty()};
  }
  const auto reached_by = exchange.all_gather(reached, options.timeout);
  std::vector<std::vector<bool>> reaches(num_ranks, std::vector<bool>(num_ranks));
  for (int a = 0; a < num_ranks; ++a) {
    for (int b = 0; b < num_ranks; ++b) {
      reaches[a][b] = reached_by[a][b] == std::byte{1} && reached_by[b][a] == std::byte{1};
    }
  }

  topology.group_token = all[0].group_token;
  topology.domain_of = partition(num_ranks, reaches);
  topology.wait_style = choose_wait_style(options.waiting, rank, all);
  topology.lowest_rank_of_process = num_ranks;
  for (int peer = num_ranks - 1; peer >= 0; --peer) {
    if (all[peer].process == all[rank].process) topology.lowest_rank_of_process = peer;
    topology.several_processes |= all[peer].process != all[rank].process;
  }
  std::vector<int> members;
  for (int peer = 0; peer < num_ranks; ++peer) {
    if (topology.domain_of[peer] == topology.domain_of[rank]) members.push_back(peer);
    if (!may_share(all[rank], all[peer]) || topology.domain_of[peer] == topology.domain_of[rank]) continue;
    if (reaches[rank][peer]) continue;  // some other rank of its domain is out of reach
    topology.obstacles.push_back(fmt::format("ranks {} and {} of this host cannot map each other's memory: {}", rank, peer,
                                             obstacles[peer].empty() ? fmt::format("rank {} says so", peer) : obstacles[peer]));
    log(LogLevel::kWarning, topology.obstacles.back());
  }
  if (device >= 0) {
    topology.place.device = device;
    std::set<int> users;
    for (const int peer : members) {
      if (all[peer].process == all[rank].process) users.insert(all[peer].device);
      if (all[peer].gpu == all[rank].gpu) ++topology.num_ranks_on_gpu;
      const auto shares = [&](int other) { return other != peer && all[other].gpu == all[peer].gpu; };
      topology.has_lone_rank |= std::none_of(members.begin(), members.end(), shares);
    }
    topology.place.users.assign(users.begin(), users.end());
  }
  log(LogLevel::kDebug, fmt::format("rank {} of {}: domain of {} ranks, {}, GPU handles {}, {}", rank, num_ranks,
                                    members.size(), all_threads ? "threads" : "processes", to_string(topology.place.handle),
                                    topology.wait_style == WaitStyle::kSpin ? "spinning" : "yielding"));
  topology.channel = all_threads ? make_thread_channel(topology.group_token, rank, std::move(members))
                                 : make_socket_channel(rank, std::move(members), std::move(sockets));
  return topology;
}

}  // namespace tokenyard
