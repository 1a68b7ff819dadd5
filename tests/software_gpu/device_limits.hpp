// What a software GPU has of everything: about as much as Hopper.
#pragma once

#include <cstddef>

namespace software_gpu {

inline constexpr int kNumSms = 32;  // fewer: each block is a thread of the host
inline constexpr unsigned kMaxThreadsOfBlock = 1024;
inline constexpr std::size_t kSharedBytesOfBlock = 232'448;
inline constexpr std::size_t kDeviceBytes = std::size_t{140} << 30;

}  // namespace software_gpu
