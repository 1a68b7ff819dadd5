// What the person at the command line got wrong: the program ends with exit code 2, as for an unknown option.
#pragma once

#include <stdexcept>

namespace tokenyard::cli {

class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace tokenyard::cli
