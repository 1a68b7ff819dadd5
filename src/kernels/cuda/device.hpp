// What a launch must know about the current device.
#pragma once

namespace tokenyard::cuda {

struct Device {
  bool has_bulk_copies;  // Hopper and later
  int num_sms;
  int max_shared_bytes;  // per block
  bool reaches_pageable_memory;
};

Device current_device();

}  // namespace tokenyard::cuda
