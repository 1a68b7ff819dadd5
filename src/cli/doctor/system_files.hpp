// Small files in which the system tells about itself.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tokenyard::cli {

// The first line, without white space at its end; empty where there is no such file.
std::string read_line(const std::string& path);
std::vector<std::string> read_lines(const std::string& path);

// Nothing where there is no such file or no number in it.
std::optional<std::int64_t> read_number(const std::string& path);

// Names of the entries of a folder in ascending order; empty where there is none.
std::vector<std::string> list_folder(const std::string& path);

}  // namespace tokenyard::cli
