#include "cli/progress.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

namespace tokenyard::cli {
namespace {

constexpr std::chrono::milliseconds kRedrawInterval{100};

bool can_rewrite_lines(std::FILE* stream) {
  const char* terminal = std::getenv("TERM");
  return isatty(fileno(stream)) == 1 && (terminal == nullptr || std::string_view(terminal) != "dumb");
}

}  // namespace

Progress::Progress(std::string label, std::int64_t num_steps, std::FILE* stream)
    : label_(std::move(label)),
      num_steps_(std::max<std::int64_t>(num_steps, 1)),
      stream_(stream),
      is_terminal_(can_rewrite_lines(stream)) {
  if (is_terminal_) draw();
}

Progress::~Progress() {
  if (!is_terminal_) return;
  std::fputs("\r\x1b[K", stream_);
  std::fflush(stream_);
}

void Progress::advance(std::int64_t num_steps) {
  num_done_ += num_steps;
  if (is_terminal_ && Clock::now() - last_drawn_ >= kRedrawInterval) draw();
}

void Progress::draw() {
  last_drawn_ = Clock::now();
  const std::string line = fmt::format("\r{}: {}/{} ({} %)\x1b[K", label_, num_done_, num_steps_, num_done_ * 100 / num_steps_);
  std::fputs(line.c_str(), stream_);
  std::fflush(stream_);
}

}  // namespace tokenyard::cli
