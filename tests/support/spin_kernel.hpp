// A kernel that keeps a stream waiting.
#pragma once

#include <chrono>

#include "tokenyard/execution.hpp"

namespace tokenyard::test {

// Whatever is enqueued behind it begins that much later. One thread of the stream's device is busy meanwhile.
void enqueue_delay(Stream stream, std::chrono::nanoseconds delay);

}  // namespace tokenyard::test
