#include "cli/doctor/handles.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <string>

#include "cli/doctor/number_ranges.hpp"

namespace tokenyard::cli {
namespace {

void append_to(std::string& list, const char* separator, const std::string& text) {
  list += (list.empty() ? "" : separator) + text;
}

bool offers_any(const HandleOffers& offers) {
  return std::any_of(offers.begin(), offers.end(), [](const HandleOffer& offer) { return offer.is_offered(); });
}

}  // namespace

void report_handles(SectionFindings& findings, const std::vector<HandleOffers>& by_gpu) {
  std::string offered;
  std::string missing;
  for (std::size_t kind = 0; kind < HandleOffers{}.size(); ++kind) {
    std::vector<int> gpus_without;
    std::string obstacle;
    for (std::size_t gpu = 0; gpu < by_gpu.size(); ++gpu) {
      if (by_gpu[gpu][kind].is_offered()) continue;
      gpus_without.push_back(static_cast<int>(gpu));
      obstacle = by_gpu[gpu][kind].obstacle;
    }
    const char* const name = to_string(by_gpu[0][kind].kind);
    if (gpus_without.empty()) {
      append_to(offered, ", ", name);
    } else {
      const bool is_everywhere = gpus_without.size() == by_gpu.size();
      append_to(missing, "; ",
                fmt::format("no {}{}: {}", name, is_everywhere ? "" : " on GPU " + to_ranges(gpus_without), obstacle));
    }
  }
  if (std::all_of(by_gpu.begin(), by_gpu.end(), offers_any)) {
    findings.ok("handles", offered.empty() ? "of another kind on each GPU" : offered, missing);
  } else {
    findings.warning("handles", missing, "ranks that are processes cannot share these GPUs' memory",
                     "run the ranks as threads of one process; in a virtual machine or a container, what passes the GPUs "
                     "through decides");
  }
}

}  // namespace tokenyard::cli
