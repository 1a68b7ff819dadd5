#include "memory/handle_choice.hpp"

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "base/fail.hpp"

namespace tokenyard {
namespace {

constexpr const char* kVariable = "TOKENYARD_GPU_HANDLE";

std::string descriptor_obstacle(const HandleCapabilities& capabilities) {
  if (!capabilities.has_virtual_memory) return "the driver has no virtual memory management for this GPU";
  return capabilities.has_descriptors ? "" : "the driver makes no file descriptors of this GPU's memory";
}

std::string fabric_obstacle(const HandleCapabilities& capabilities) {
  if (!capabilities.has_virtual_memory) return "the driver has no virtual memory management for this GPU";
  if (!capabilities.has_fabric_handles) return "the GPU or its driver has no fabric handles";
  return capabilities.has_imex_channel ? "" : "no IMEX channel in /dev/nvidia-caps-imex-channels that this process may open";
}

std::string ipc_obstacle(const HandleCapabilities& capabilities) {
  return capabilities.has_ipc ? "" : "the driver has no CUDA IPC for this GPU";
}

}  // namespace

HandleOffers offers_of(const HandleCapabilities& capabilities) {
  return {{{HandleKind::kDescriptor, descriptor_obstacle(capabilities)},
           {HandleKind::kFabric, fabric_obstacle(capabilities)},
           {HandleKind::kIpc, ipc_obstacle(capabilities)}}};
}

HandleKind wanted_handle() {
  const char* const text = std::getenv(kVariable);
  if (text == nullptr || *text == '\0') return HandleKind::kNone;
  for (const HandleKind kind : {HandleKind::kDescriptor, HandleKind::kFabric, HandleKind::kIpc}) {
    if (std::string_view(text) == to_string(kind)) return kind;
  }
  fail_argument("{} is {}: it must be descriptor, fabric or ipc, or not be set", kVariable, text);
}

HandleKind choose_handle(const HandleOffers& offers, HandleKind wanted) {
  const auto chosen = std::find_if(offers.begin(), offers.end(), [&](const HandleOffer& offer) {
    return wanted == HandleKind::kNone ? offer.is_offered() : offer.kind == wanted;
  });
  if (chosen == offers.end()) {
    std::string reasons;
    for (const HandleOffer& offer : offers) {
      reasons += fmt::format("{}{}: {}", reasons.empty() ? "" : "; ", to_string(offer.kind), offer.obstacle);
    }
    fail(ErrorCode::kUnsupported,
         "no handle passes this GPU's memory to another process ({}); run the ranks as threads of one process", reasons);
  }
  if (!chosen->is_offered()) {
    fail(ErrorCode::kUnsupported, "{} asks for handles of kind {}, which cannot be had: {}", kVariable, to_string(wanted),
         chosen->obstacle);
  }
  return chosen->kind;
}

}  // namespace tokenyard
