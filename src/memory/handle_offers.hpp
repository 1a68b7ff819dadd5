// Which handles a GPU's memory can have. Without CUDA in the build both throw Error(kUnsupported), as they do without a driver.
#pragma once

#include "memory/handle_choice.hpp"

namespace tokenyard {

// By what the driver says of the device; starts CUDA on none.
HandleCapabilities handle_capabilities(int device);

// The same as offers, and tried out: drivers and containers may refuse what they announce. Starts CUDA on the device.
HandleOffers handle_offers(int device);

}  // namespace tokenyard
