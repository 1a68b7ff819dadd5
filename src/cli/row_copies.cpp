#include "cli/row_copies.hpp"

#include <algorithm>
#include <cstring>

namespace tokenyard::cli {
namespace {

constexpr std::size_t kLineBytes = 64;  // parts of different ranks share no cache line

std::size_t whole_lines(std::size_t num_bytes) { return (num_bytes + kLineBytes - 1) / kLineBytes * kLineBytes; }

}  // namespace

RowCopies::RowCopies(const Group& group, std::size_t max_sent_bytes, std::size_t max_copied_bytes)
    : max_sent_bytes_(whole_lines(std::max<std::size_t>(max_sent_bytes, 1))),
      window_(group.window(max_sent_bytes_ * static_cast<std::size_t>(group.num_ranks()))),
      source_(std::max(max_sent_bytes_, max_copied_bytes)),
      target_(max_copied_bytes) {
  for (std::size_t i = 0; i < source_.size(); ++i) source_[i] = static_cast<std::byte>(i * 131 >> 3);
}

void RowCopies::gather(std::size_t num_bytes) {
  if (num_bytes > 0) std::memcpy(target_.data(), source_.data(), num_bytes);
  asm volatile("" : : "r"(target_.data()) : "memory");  // nobody reads the copies, but they must be made
}

void RowCopies::send(int destination, std::size_t num_bytes) {
  std::byte* part = window_.mapped(destination) + max_sent_bytes_ * static_cast<std::size_t>(window_.rank());
  std::memcpy(part, source_.data(), num_bytes);
}

void RowCopies::deliver(const std::vector<std::size_t>& sent_bytes, std::size_t num_bytes) {
  std::size_t done = 0;
  while (done < num_bytes) {
    const std::size_t before = done;
    for (std::size_t source = 0; source < sent_bytes.size(); ++source) {
      const std::size_t part = std::min(sent_bytes[source], num_bytes - done);
      std::memcpy(target_.data() + done, window_.local() + max_sent_bytes_ * source, part);
      done += part;
    }
    if (done == before) return;  // nobody sent anything
  }
  asm volatile("" : : "r"(target_.data()) : "memory");
}

}  // namespace tokenyard::cli
