// What a launch must know about the current device.
#pragma once

namespace tokenyard::cuda {

struct Device {
  bool has_bulk_copies;  // Hopper and later
  int num_sms;
  int max_shared_bytes;  // per block
  bool reaches_pageable_memory;
};

// Asked of the driver once per device: every launch wants to know.
Device current_device();

}  // namespace tokenyard::cuda
