// Pieces of a block of memory, handed out and taken back without asking anybody else.
#pragma once

#include <cstddef>
#include <iterator>
#include <map>

namespace tokenyard::test {

class Arena {
 public:
  // Does not own the block, which is aligned to 256 bytes.
  Arena(std::byte* begin, std::size_t num_bytes) : begin_(begin), end_(begin + num_bytes) { free_[begin] = num_bytes; }

  // Aligned to 256 bytes; nullptr where no gap is large enough.
  std::byte* take(std::size_t num_bytes) {
    num_bytes = (num_bytes / kAlignment + 1) * kAlignment;
    for (auto gap = free_.begin(); gap != free_.end(); ++gap) {
      if (gap->second < num_bytes) continue;
      const auto [piece, gap_bytes] = *gap;
      free_.erase(gap);
      if (gap_bytes > num_bytes) free_[piece + num_bytes] = gap_bytes - num_bytes;
      taken_[piece] = num_bytes;
      return piece;
    }
    return nullptr;
  }

  void give_back(std::byte* piece) {
    auto gap = free_.emplace(piece, taken_.at(piece)).first;
    taken_.erase(piece);
    const auto next = std::next(gap);
    if (next != free_.end() && gap->first + gap->second == next->first) {
      gap->second += next->second;
      free_.erase(next);
    }
    if (gap == free_.begin()) return;
    const auto previous = std::prev(gap);
    if (previous->first + previous->second != gap->first) return;
    previous->second += gap->second;
    free_.erase(gap);
  }

  bool contains(const std::byte* address) const { return address >= begin_ && address < end_; }

 private:
  static constexpr std::size_t kAlignment = 256;

  std::byte* begin_;
  std::byte* end_;
  std::map<std::byte*, std::size_t> free_, taken_;  // by address, bytes
};

}  // namespace tokenyard::test
