// One rank's part in a random case: makes the calls and compares everything that they promise with the reference.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "tests/property/expectations.hpp"
#include "tests/property/findings.hpp"
#include "tests/property/guarded_rows.hpp"
#include "tests/property/strided_matrix.hpp"
#include "tests/support/random_case.hpp"
#include "tests/support/residence.hpp"
#include "tokenyard/group.hpp"

namespace tokenyard::test {

// A dispatch's result and what is known about it.
struct ResultOfStep {
  const Step* step = nullptr;
  const Shape* shape = nullptr;
  const reference::Arrived* expected = nullptr;
  Residence* residence = nullptr;
  Received received;
  Routing routing;
  RecvSizes sizes;
  std::vector<std::unique_ptr<GuardedRows>> memory;  // by lane, where the rows are not in the slot
  bool has_weights = false;
  bool is_overwritten = false;  // by outputs of experts
  bool is_released = false;
};

class RankRun {
 public:
  // What is passed must outlive the run. Collective: all ranks of the group make the same run.
  RankRun(const Case& random_case, const Expectations& expectations, const Group& group, Residence* residence,
          Findings* findings);

  // Throws what the library throws; wrong results become findings.
  void run();

 private:
  void dispatch(const Step& step);
  void combine(const Step& step);
  // Makes the call as a whole, in two halves, or its first half alone; `check` looks at what the second half delivers.
  void make_call(const Step& step, RandomBits* random, std::function<void()> whole,
                 std::function<std::shared_ptr<Pending>()> begin, std::function<void(Pending*)> complete,
                 std::function<void()> check_result);
  // Calls of streams: the whole call where it would only be begun, looked at where it would be completed. All ranks do the
  // same, since calls come in the same order on all of them.
  bool only_checks_late(const Step& step) const;
  void check_cannot_be_asked(const Step& step, const Pending& pending);
  void check_combined(const Step& step, const std::vector<int>& biases, bool in_slot, StridedMatrix* output,
                      StridedMatrix* returned);
  void release(const Step& step);
  void let_go(ResultOfStep* result, RandomBits* random);
  // Drops some of the results that no later step needs, so that their Routings' memory serves other results.
  void forget_unused(std::size_t step_idx);
  void check_routing_of(const ResultOfStep& result, const std::string& moment);

  // Latency mode: what plans count of each peer.
  void check_counters();

  // Rows that each lane's tensor must have.
  std::int64_t expected_tensor_rows(const Step& step) const;
  void allocate_outputs(const RecvSizes& sizes, ResultOfStep* result, std::span<TensorView> outputs, RandomBits* random);
  void check_announced_sizes(const RecvSizes& sizes, const ResultOfStep& result);

  const reference::Routed& routed(const Step& step) const { return expectations_.routed(step.token_set, step.placement); }

  const Case& case_;
  const Expectations& expectations_;
  Residence* residence_;
  Findings* findings_;
  int rank_;
  std::vector<Plan> plans_;
  std::vector<std::vector<PeerCounters>> expected_counters_;  // by plan, then peer; without times
  std::map<int, ResultOfStep> results_;
  std::map<int, std::size_t> last_uses_;  // of results: indices of steps
  struct OpenCall {
    std::shared_ptr<Pending> pending;
    std::function<void()> finish;
  };
  std::map<int, OpenCall> open_calls_;  // that have been begun
};

// Compare a result with what is expected at `rank`; each line found starts with `when`.
void check_lanes(const ResultOfStep& result, const std::string& when, Findings* findings);
void check_routing(const ResultOfStep& result, std::int64_t num_sent, const PlanSizes& sizes, const std::string& when,
                   Findings* findings);

// Overwrites all rows of a lane that are not left unspecified. `tensor` is on the host.
void poison_lane(const ResultOfStep& result, int lane, const TensorView& tensor);

}  // namespace tokenyard::test
