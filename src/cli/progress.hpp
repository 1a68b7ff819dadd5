// How far a long piece of work has come: one line that is rewritten in place.
#pragma once

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>

namespace tokenyard::cli {

// Writes to `stream` where that is a terminal, and nothing at all elsewhere. The line is removed at the end.
class Progress {
 public:
  Progress(std::string label, std::int64_t num_steps, std::FILE* stream = stderr);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void advance(std::int64_t num_steps = 1);

 private:
  using Clock = std::chrono::steady_clock;
  void draw();

  std::string label_;
  std::int64_t num_steps_;
  std::int64_t num_done_ = 0;
  std::FILE* stream_;
  bool is_terminal_;
  Clock::time_point last_drawn_;
};

}  // namespace tokenyard::cli
