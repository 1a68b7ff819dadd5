// Findings as people read them.
#pragma once

#include <string>

#include "cli/doctor/finding.hpp"

namespace tokenyard::cli {

// A line per finding: section, verdict, name, what was found and why that is so; beneath it the cure, where there is one. No
// line is longer than `width` where words allow it. `is_colored`: for terminals.
std::string to_page(const Findings& findings, bool is_colored, std::size_t width);

// "All is well." or how many lines are not, by name.
std::string to_conclusion(const Findings& findings, bool is_colored);

// What is not well, a line each, for standard error: "tokenyard [rank 3]: ...".
std::string to_complaints(const Findings& findings, int rank);

// Whether the page may have colours: standard output is a terminal, and nothing (NO_COLOR, TERM=dumb) is against it.
bool wants_color();

// The width of the terminal, as far as it is one and neither narrow nor too wide to read; otherwise 120.
std::size_t page_width();

}  // namespace tokenyard::cli
