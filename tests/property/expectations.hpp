// The reference's view of a random case.
#pragma once

#include <map>
#include <utility>

#include "tests/reference/routing.hpp"
#include "tests/support/random_case.hpp"

namespace tokenyard::test {

class Expectations {
 public:
  // Works out all dispatches of the case. Reading is thread-safe.
  explicit Expectations(const Case& random_case);

  const reference::World& world(int placement) const { return worlds_.at(placement); }
  const reference::Routed& routed(int token_set, int placement) const { return routed_.at({token_set, placement}); }

 private:
  std::map<int, reference::World> worlds_;
  std::map<std::pair<int, int>, reference::Routed> routed_;  // by token set and placement
};

}  // namespace tokenyard::test
