// Another program, run to its end.
#pragma once

#include <chrono>
#include <string>
#include <vector>

namespace tokenyard::cli {

struct ProgramResult {
  int exit_code = 0;  // 128 + s where signal s killed it
  bool timed_out = false;
  std::string output;  // what it wrote to standard output
  std::string errors;  // and to standard error
};

// `arguments[0]` is the program, looked up in PATH where it has no slash. Blocking. A program that has not ended within
// `timeout` is sent SIGTERM and, two seconds later, SIGKILL. It is also ended when this thread ends. Throws Error(kSystem)
// where the program cannot be started.
ProgramResult run_program(const std::vector<std::string>& arguments, std::chrono::milliseconds timeout);

}  // namespace tokenyard::cli
