// Rows whose every byte follows from a seed: what was sent can be told from what was received, anywhere and at any time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cli {

// Floating-point rows hold numbers of either sign with magnitudes in [2^-7, 2), so that they can be summed; others any bits.
void write_payload(std::uint64_t row_seed, DataType dtype, std::byte* row, std::size_t num_bytes);

// Whether a row holds exactly what write_payload would write.
bool is_payload(std::uint64_t row_seed, DataType dtype, const std::byte* row, std::size_t num_bytes);

}  // namespace tokenyard::cli
