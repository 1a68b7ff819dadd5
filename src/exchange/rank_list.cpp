#include "exchange/rank_list.hpp"

#include <fmt/core.h>

#include <cstddef>

namespace tokenyard {
namespace {

constexpr int kMaxPieces = 24;

}  // namespace

std::string list_ranks(std::span<const int> ranks) {
  if (ranks.empty()) return "no rank";
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  int num_pieces = 0;
  for (std::size_t begin = 0; begin < ranks.size(); ++num_pieces) {
    if (num_pieces == kMaxPieces) return text + fmt::format(" and {} more", ranks.size() - begin);
    std::size_t end = begin + 1;
    while (end < ranks.size() && ranks[end] == ranks[end - 1] + 1) ++end;
    if (num_pieces > 0) text += ", ";
    const std::size_t length = end - begin;
    if (length < 3) end = begin + 1;  // "4, 5" reads better than "4-5"
    text += length < 3 ? fmt::format("{}", ranks[begin]) : fmt::format("{}-{}", ranks[begin], ranks[end - 1]);
    begin = end;
  }
  return text;
}

}  // namespace tokenyard
