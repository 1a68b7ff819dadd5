// What streams are captured to.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <vector>

namespace software_gpu {

class Stream;

struct Node {
  enum class Kind { kOperation, kRecord, kWait } kind;
  int lane;
  std::function<void()> operation;
  std::size_t mark;
};

// What was captured. Each stream that took part is a lane; lane 0 is the one that began.
struct Graph : std::enable_shared_from_this<Graph> {
  std::vector<Node> nodes;
  std::vector<Stream*> captured;  // streams, while it lasts
  int num_lanes = 0;
  std::size_t num_marks = 0;
  bool is_spoilt = false;
  bool is_over = false;           // the capture
  std::shared_ptr<Graph> handle;  // itself, until it is destroyed
};

}  // namespace software_gpu
