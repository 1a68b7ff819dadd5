// Network cards, and the library by which a later version will reach other hosts.
#include <dlfcn.h>
#include <fmt/core.h>

#include <chrono>
#include <string>
#include <vector>

#include "cli/doctor/probe_apart.hpp"
#include "cli/doctor/probes.hpp"
#include "cli/doctor/system_files.hpp"

namespace tokenyard::cli {
namespace {

constexpr std::chrono::milliseconds kTimeout{10'000};
constexpr std::size_t kMostCards = 4;  // by name; a host for training has dozens of interfaces

std::string join(const std::vector<std::string>& texts) {
  std::string all;
  for (std::size_t i = 0; i < texts.size() && i < kMostCards; ++i) all += (i == 0 ? "" : "; ") + texts[i];
  if (texts.size() > kMostCards) all += fmt::format("; and {} more", texts.size() - kMostCards);
  return all;
}

std::string speed_text(std::int64_t megabits) {
  if (megabits <= 0) return "";
  return megabits >= 1000 ? fmt::format(" {:g} Gb/s,", static_cast<double>(megabits) / 1000)
                          : fmt::format(" {} Mb/s,", megabits);
}

void list_interfaces(SectionFindings& findings) {
  std::vector<std::string> cards;
  for (const std::string& name : list_folder("/sys/class/net")) {
    const std::string folder = "/sys/class/net/" + name;
    const std::string state = read_line(folder + "/operstate");
    // Tunnels and bridges do not tell, but carry traffic.
    if (name == "lo" || (state != "up" && state != "unknown")) continue;
    cards.push_back(fmt::format("{}{} MTU {}", name, speed_text(read_number(folder + "/speed").value_or(0)),
                                read_number(folder + "/mtu").value_or(0)));
  }
  if (cards.empty()) {
    findings.not_applicable("interfaces", "only loopback is up: other hosts are out of reach");
  } else {
    findings.ok("interfaces", join(cards));
  }
}

void list_rdma_ports(SectionFindings& findings) {
  std::vector<std::string> ports;
  int num_active = 0;
  for (const std::string& card : list_folder("/sys/class/infiniband")) {
    for (const std::string& port : list_folder("/sys/class/infiniband/" + card + "/ports")) {
      const std::string folder = fmt::format("/sys/class/infiniband/{}/ports/{}", card, port);
      const std::string state = read_line(folder + "/state");  // "4: ACTIVE"
      const bool is_active = state.find("ACTIVE") != std::string::npos;
      num_active += is_active ? 1 : 0;
      ports.push_back(fmt::format("{} port {} {} {}{}", card, port, read_line(folder + "/link_layer"),
                                  read_line(folder + "/rate"), is_active ? "" : " (" + state + ")"));
    }
  }
  if (ports.empty()) {
    findings.not_applicable("RDMA", "no card");
  } else if (num_active == 0) {
    findings.warning("RDMA", join(ports), "no port is active",
                     "ibstat and dmesg say more: the cable, the switch, the subnet manager");
  } else {
    findings.ok("RDMA", join(ports), "this version does not use it");
  }
}

Findings ask_libfabric() {
  SectionFindings findings(Section::kNetwork);
  void* library = dlopen("libfabric.so.1", RTLD_NOW | RTLD_LOCAL);
  using Version = std::uint32_t();
  auto* version = library == nullptr ? nullptr : reinterpret_cast<Version*>(dlsym(library, "fi_version"));
  if (version == nullptr) {
    findings.not_applicable("libfabric", "not installed; this version does not use it");
  } else {
    findings.ok("libfabric", fmt::format("{}.{}", version() >> 16, version() & 0xffff), "this version does not use it");
  }
  return findings.take();
}

}  // namespace

Findings probe_network() {
  SectionFindings findings(Section::kNetwork);
  list_interfaces(findings);
  list_rdma_ports(findings);
  Findings all = findings.take();
  append(all, probe_apart(ask_libfabric, kTimeout, [](const std::string& loss) {
           SectionFindings lost(Section::kNetwork);
           lost.warning("libfabric", "its library cannot be loaded: " + loss, "this version does not use it",
                        "install it anew: fi_info shows whether it works");
           return lost.take();
         }));
  return all;
}

}  // namespace tokenyard::cli
