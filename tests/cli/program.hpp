// The command line program, run as people run it.
#pragma once

#include <string>
#include <vector>

#include "cli/subprocess.hpp"

namespace tokenyard::cli {

// Runs `tokenyard` with these arguments, in an environment without launchers' variables and with those of `environment`
// (NAME=value).
ProgramResult run_tokenyard(std::vector<std::string> arguments, const std::vector<std::string>& environment = {});

// Runs a shell script in such an environment.
ProgramResult run_script(const std::string& script);

// A text of some hundred tokens.
std::string sample_text();

}  // namespace tokenyard::cli
