// Slurm's lists of hosts, such as node[01-04,07],big5.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tokenyard {

struct SlurmHosts {
  std::string first;
  bool is_alone = false;  // there is no other
};

// nullopt: no list of hosts.
std::optional<SlurmHosts> parse_slurm_hosts(std::string_view list);

}  // namespace tokenyard
