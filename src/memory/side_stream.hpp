// A stream of the library's own on each GPU, for short work that must not stand behind anybody's kernels. For .cpp files of the
// CUDA part.
#pragma once

#include "tokenyard/execution.hpp"

namespace tokenyard {

// The current device's. There is one in the process: a GPU has few queues for streams, and streams that share a queue wait for
// each other, so every further one could put a rank's kernels behind those of another rank that waits for them.
Stream side_stream();

// Another stream of the current device, of the highest priority: other priorities have other queues, so it does not stand
// behind kernels that wait in streams of users. The caller destroys it.
Stream make_urgent_stream();

}  // namespace tokenyard
