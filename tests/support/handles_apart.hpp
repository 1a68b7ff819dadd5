// Asks which handles the first GPU offers without starting CUDA in this process, whose children could not use it then.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>

#include "memory/handle_offers.hpp"

namespace tokenyard::test {

// Why memory of GPU 0 cannot be passed on by handles of this kind; empty: it can.
inline std::string find_handle_obstacle(HandleKind kind) {
  for (const HandleOffer& offer : handle_offers(0)) {
    if (offer.kind == kind) return offer.obstacle;
  }
  return "no such kind";
}

inline std::string find_handle_obstacle_apart(HandleKind kind) {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) return "pipe failed";
  const pid_t child = fork();
  if (child == 0) {
    std::string text;
    try {
      text = find_handle_obstacle(kind);
    } catch (const std::exception& error) {
      text = error.what();
    }
    _exit(write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(ends[1]);
  std::string text;
  std::array<char, 512> piece{};
  for (ssize_t num_read = 0; (num_read = read(ends[0], piece.data(), piece.size())) > 0;) text.append(piece.data(), num_read);
  close(ends[0]);
  int status = 0;
  const bool is_answered = waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return is_answered ? text : "the process that asked for handles ended without a word";
}

// In the body of a test; the second of a test that forks.
#define SKIP_WITHOUT_HANDLES(kind)                                                                   \
  if (const std::string obstacle = ::tokenyard::test::find_handle_obstacle(kind); !obstacle.empty()) \
  GTEST_SKIP() << "GPU 0 has no handles of kind " << to_string(kind) << ": " << obstacle
#define SKIP_WITHOUT_HANDLES_APART(kind)                                                                   \
  if (const std::string obstacle = ::tokenyard::test::find_handle_obstacle_apart(kind); !obstacle.empty()) \
  GTEST_SKIP() << "GPU 0 has no handles of kind " << to_string(kind) << ": " << obstacle

}  // namespace tokenyard::test
