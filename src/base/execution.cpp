#include "tokenyard/execution.hpp"

namespace tokenyard {

const char* to_string(Copies copies) noexcept {
  switch (copies) {
    case Copies::kChosen: return "chosen";
    case Copies::kBulk: return "bulk";
    case Copies::kPlain: return "plain";
    case Copies::kEngine: return "engine";
  }
  return "unknown copies";
}

}  // namespace tokenyard
