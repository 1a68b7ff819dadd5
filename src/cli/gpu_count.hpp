// How many GPUs there are, for a program that has not started CUDA yet and may still fork.
#pragma once

namespace tokenyard::cli {

// Asks in a child process: CUDA, once started, cannot be used by children. Throws Error(kUnsupported) where this build has no
// CUDA, or this host no driver or no GPU, with the reason and what to do.
int count_gpus_apart();

}  // namespace tokenyard::cli
