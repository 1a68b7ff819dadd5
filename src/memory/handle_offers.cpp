#include "memory/handle_offers.hpp"

#include <unistd.h>

#include <filesystem>
#include <system_error>

#include "memory/cuda_driver.hpp"
#include "memory/gpus.hpp"
#include "memory/virtual_memory.hpp"

namespace tokenyard {
namespace {

// The files through which a system administrator lets users share memory by fabric handles.
constexpr const char* kImexFolder = "/dev/nvidia-caps-imex-channels";

bool may_use_an_imex_channel() {
  std::error_code error;
  std::filesystem::directory_iterator channels(kImexFolder, error);
  for (const std::filesystem::directory_iterator end; !error && channels != end; channels.increment(error)) {
    if (access(channels->path().c_str(), R_OK | W_OK) == 0) return true;
  }
  return false;
}

}  // namespace

HandleCapabilities handle_capabilities(int device) {
  check_device(device);  // starts the driver, too
  return {
      .has_virtual_memory = has_attribute(device, CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED),
      .has_descriptors = has_attribute(device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED),
      .has_fabric_handles = has_attribute(device, CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_FABRIC_SUPPORTED),
      .has_imex_channel = may_use_an_imex_channel(),
      .has_ipc = has_attribute(device, CU_DEVICE_ATTRIBUTE_IPC_EVENT_SUPPORTED),
  };
}

HandleOffers handle_offers(int device) {
  HandleOffers offers = offers_of(handle_capabilities(device));
  for (HandleOffer& offer : offers) {
    if (offer.is_offered() && offer.kind != HandleKind::kIpc) offer.obstacle = find_refusal(device, offer.kind);
  }
  return offers;
}

}  // namespace tokenyard
