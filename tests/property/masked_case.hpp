// Random cases of latency mode in which a rank is masked halfway.
#pragma once

#include <cstdint>
#include <string>

namespace tokenyard::test {

// Runs the case with ranks as threads. All ranks dispatch and combine a few times; then one of them, or two, fall silent, the
// others mask them and go on. Returns what was found wrong; empty if all is well.
std::string run_masked_case(std::uint64_t seed);

}  // namespace tokenyard::test
