// The rows that an operation moves between ranks, moved by memcpy alone: to where their destinations read them, and from there
// to their last place.
#pragma once

#include <cstddef>
#include <vector>

#include "cli/bench_tensors.hpp"
#include "tokenyard/group.hpp"
#include "tokenyard/window.hpp"

namespace tokenyard::cli {

class RowCopies {
 public:
  // Collective. No rank sends another more than `max_sent_bytes` at once, nor gathers or delivers more than `max_copied_bytes`.
  RowCopies(const Group& group, std::size_t max_sent_bytes, std::size_t max_copied_bytes);

  // Within this rank's memory.
  void gather(std::size_t num_bytes);

  // Into this rank's part of the destination's memory.
  void send(int destination, std::size_t num_bytes);

  // Out of the parts that the ranks sent here, `sent_bytes` by source, each as often as it takes to deliver `num_bytes`.
  void deliver(const std::vector<std::size_t>& sent_bytes, std::size_t num_bytes);

 private:
  std::size_t max_sent_bytes_;
  Window window_;
  Bytes source_;
  Bytes target_;
};

}  // namespace tokenyard::cli
