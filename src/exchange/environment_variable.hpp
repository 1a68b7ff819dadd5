// Environment variables, checked when they are read.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tokenyard {

bool is_set(const char* variable);

// These throw Error(kInvalidArgument) that names a variable that is missing, empty or malformed, shows its value, and ends with
// `advice`.
std::string text_of(const char* variable, std::string_view advice);
std::uint64_t number_of(const char* variable, std::uint64_t least, std::uint64_t most, std::string_view advice);

// Python's spelling is True; people write true and 1.
bool is_true(const char* variable);

}  // namespace tokenyard
