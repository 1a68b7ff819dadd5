#include "tests/support/random_case.hpp"

#include <algorithm>
#include <array>
#include <iterator>

#include "tests/support/random_contents.hpp"

namespace tokenyard::test {
namespace {

// What one dispatch may move at most, so that thousands of cases take a minute: (token, k) pairs, and bytes of rows.
struct Budget {
  std::int64_t num_pairs;
  std::int64_t num_bytes;
};
constexpr Budget kUsualBudget{60'000, 4 << 20};
constexpr Budget kLargeBudget{200'000, 16 << 20};
constexpr Budget kSmallBudget{400, 32768};  // of cases with many calls

constexpr std::int64_t kMaxRowBytes = 32768;
constexpr std::int64_t kMaxPaddedRows = 60'000;  // of all ranks

constexpr std::initializer_list<DataType> kSummable{DataType::kFloat16, DataType::kBFloat16, DataType::kFloat32,
                                                    DataType::kFloat64};
constexpr std::initializer_list<DataType> kAnyType{DataType::kByte,    DataType::kFloat8E4M3, DataType::kUE8M0,
                                                   DataType::kFloat16, DataType::kBFloat16,   DataType::kFloat32,
                                                   DataType::kFloat64, DataType::kInt32,      DataType::kInt64};

bool is_summable_type(DataType dtype) { return std::find(kSummable.begin(), kSummable.end(), dtype) != kSummable.end(); }

bool can_combine(const Shape& shape) { return shape.combine.has_value() || is_summable_type(shape.lanes[0].dtype); }

class CaseMaker {
 public:
  CaseMaker(std::uint64_t seed, int index, const CaseOptions& options)
      : random_(seed_of(seed, index)),
        num_calls_(options.num_calls),
        mode_(options.mode),
        uses_float8_(options.uses_float8),
        extreme_(num_calls_ > 0 ? kNoExtreme : index % 64),
        budget_(num_calls_ > 0    ? kSmallBudget
                : index % 32 == 1 ? kLargeBudget
                                  : kUsualBudget) {
    case_.seed = seed_of(seed, index);
    choose_num_ranks(options.num_ranks);
    case_.num_ranks = std::min(case_.num_ranks, options.max_num_ranks);
  }

  Case make() {
    choose_shape();
    choose_placements();
    choose_token_sets();
    choose_capacities();
    case_.shapes.push_back(shape_);
    if (random_.one_in(4)) add_second_shape();
    choose_steps();
    case_.shake = num_calls_ > 0 || random_.one_in(8);
    case_.spin = case_.num_ranks <= 2 && random_.one_in(10);
    case_.drops_plans_first = random_.one_in(4);
    return std::move(case_);
  }

 private:
  bool is_large() const { return extreme_ % 16 == 3; }  // more than 1,024 tokens on one rank at least
  std::int64_t copies_per_token() const {
    return shape_.layout == Layout::kCompact ? std::min(shape_.top_k, case_.num_ranks) : shape_.top_k;
  }

  void choose_num_ranks(std::optional<int> given) {
    case_.num_ranks = random_.pick({1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 6, 7, 8, 8, 8});
    if (extreme_ == 5) case_.num_ranks = 64;
    if (given.has_value()) case_.num_ranks = *given;
  }

  void choose_shape() {
    const int num_ranks = case_.num_ranks;
    shape_.layout = random_.pick({Layout::kCompact, Layout::kCompact, Layout::kExpertContiguous, Layout::kExpertPadded});
    shape_.mode = random_.pick({Mode::kThroughput, Mode::kLatency});
    shape_.mode = mode_.value_or(shape_.mode);
    shape_.overflow = random_.pick({Overflow::kGrow, Overflow::kGrow, Overflow::kDrop});
    shape_.num_experts = static_cast<int>(random_.any_magnitude(1, random_.one_in(6) ? num_ranks : 1024));
    if (num_calls_ > 0) shape_.num_experts = static_cast<int>(random_.any_magnitude(1, 32));
    if (extreme_ == 7) shape_.num_experts = 1024;
    shape_.top_k = static_cast<int>(random_.any_magnitude(1, kMaxTopK));
    if (num_calls_ > 0) shape_.top_k = static_cast<int>(random_.from(1, 4));
    if (extreme_ == 9) shape_.top_k = kMaxTopK;

    std::int64_t row_bytes = random_.one_in(3) ? random_.any_magnitude(1024, kMaxRowBytes) : random_.any_magnitude(16, 4096);
    if (num_calls_ > 0) row_bytes = random_.any_magnitude(16, 256);
    if (extreme_ == 11) row_bytes = kMaxRowBytes;
    if (extreme_ == 13) row_bytes = 16;
    if (is_large()) {
      shape_.max_tokens = extreme_ == 3 ? 4096 : random_.from(1025, 4096);
      shape_.top_k = static_cast<int>(std::clamp<std::int64_t>(budget_.num_pairs / shape_.max_tokens, 1, shape_.top_k));
      row_bytes = std::min(row_bytes, budget_.num_bytes / (shape_.max_tokens * copies_per_token()));
    } else {
      const std::int64_t most_by_pairs = budget_.num_pairs / (num_ranks * shape_.top_k);
      const std::int64_t most_by_bytes = budget_.num_bytes / (row_bytes * copies_per_token() * num_ranks);
      const std::int64_t most = std::clamp<std::int64_t>(std::min(most_by_pairs, most_by_bytes), 1, 1024);
      shape_.max_tokens = random_.one_in(3) ? random_.any_magnitude(1, most) : random_.from((most + 1) / 2, most);
    }
    row_bytes = std::max<std::int64_t>(row_bytes / 16 * 16, 16);
    choose_lanes(row_bytes, &shape_);
  }

  void choose_lanes(std::int64_t row_bytes, Shape* shape) {
    shape->lanes.clear();
    shape->combine.reset();
    shape->quantization.reset();
    const DataType dtype = random_.one_in(3) ? random_.pick(kAnyType) : random_.pick(kSummable);
    const auto elements_of = [](DataType type, std::int64_t num_bytes) {
      return num_bytes / static_cast<std::int64_t>(size_of(type));
    };
    if (random_.one_in(4) && uses_float8_) {
      choose_quantization(row_bytes, shape);
    } else {
      shape->lanes.push_back({dtype, elements_of(dtype, row_bytes)});
    }
    const int num_more = shape->quantization.has_value() ? random_.pick({0, 0, 1, 2}) : random_.pick({0, 0, 0, 1, 1, 2, 3});
    for (int i = 0; i < num_more; ++i) {
      shape->lanes.push_back({random_.pick(kAnyType), random_.from(1, std::max<std::int64_t>(row_bytes / 64, 3))});
    }
    for (std::size_t i = 1; i < shape->lanes.size() && shape->layout != Layout::kCompact; ++i) {
      shape->lanes[i].column_major = random_.one_in(2);
    }
    choose_combine(row_bytes, shape);
    const bool can_return_float8 =
        can_combine(*shape) && (shape->combine ? shape->combine->dtype : shape->lanes[0].dtype) != DataType::kFloat64;
    shape->combine_as_float8 = can_return_float8 && random_.one_in(5) && uses_float8_;
  }

  // The rows that are given are two to four times as large as those that travel.
  void choose_quantization(std::int64_t row_bytes, Shape* shape) {
    shape->quantization =
        Quantization{random_.pick({DataType::kFloat32, DataType::kBFloat16, DataType::kFloat16}),
                     random_.pick({ScaleFormat::kFloat32, ScaleFormat::kFloat32PowerOf2, ScaleFormat::kUE8M0})};
    const std::int64_t hidden = std::max<std::int64_t>(row_bytes / 4 / 16 * 16, 16);
    const bool is_byte = shape->quantization->format == ScaleFormat::kUE8M0;
    shape->lanes.push_back({DataType::kFloat8E4M3, hidden});
    shape->lanes.push_back({is_byte ? DataType::kUE8M0 : DataType::kFloat32, (hidden + kScaleBlock - 1) / kScaleBlock});
  }

  void choose_combine(std::int64_t row_bytes, Shape* shape) {
    const DataType dtype = shape->lanes[0].dtype;
    const auto elements_of = [](DataType type, std::int64_t num_bytes) {
      return num_bytes / static_cast<std::int64_t>(size_of(type));
    };
    // Dispatch only, the rows of lane 0, or rows of another type and width.
    if (random_.one_in(is_summable_type(dtype) ? 2 : 3)) return;
    const DataType summed = random_.pick(kSummable);
    std::int64_t combine_bytes = shape->lanes[0].num_elements * static_cast<std::int64_t>(size_of(summed));
    if (combine_bytes % 16 != 0 || combine_bytes > 2 * row_bytes || combine_bytes > kMaxRowBytes || random_.one_in(4)) {
      combine_bytes = random_.any_magnitude(1, std::max<std::int64_t>(row_bytes / 16, 1)) * 16;
    }
    shape->combine = Lane{summed, elements_of(summed, combine_bytes)};
  }

  // Every expert somewhere, some of them several times (on one rank too), in any order; some ranks may stay empty.
  PlacementTable random_placement() {
    PlacementTable table;
    table.experts_of.resize(case_.num_ranks);
    const int num_used_ranks = random_.one_in(4) ? static_cast<int>(random_.from(1, case_.num_ranks)) : case_.num_ranks;
    const auto add = [&](int expert) {
      auto& experts = table.experts_of[random_.from(0, num_used_ranks - 1)];
      experts.insert(experts.begin() + random_.from(0, std::ssize(experts)), expert);
    };
    for (int expert = 0; expert < shape_.num_experts; ++expert) add(expert);
    const std::int64_t num_replicas = random_.one_in(4) ? 0 : random_.from(1, shape_.num_experts);
    for (std::int64_t i = 0; i < num_replicas; ++i) {
      // Lower experts get more of them.
      add(static_cast<int>(random_.from(0, random_.from(0, shape_.num_experts - 1))));
    }
    return table;
  }

  void choose_placements() {
    case_.placements.push_back(random_.one_in(2) ? PlacementTable{} : random_placement());
    const int num_more = random_.one_in(4) ? 2 : 0;
    for (int i = 0; i < num_more; ++i) case_.placements.push_back(random_.one_in(4) ? PlacementTable{} : random_placement());
    shape_.placement = case_.placements[0];
    if (num_more == 0 && random_.one_in(2)) return;
    const auto per_rank = (shape_.num_experts + case_.num_ranks - 1) / case_.num_ranks;
    shape_.max_local_experts = per_rank + static_cast<int>(random_.from(0, 2));
    for (const PlacementTable& table : case_.placements) {
      for (const auto& experts : table.experts_of) {
        shape_.max_local_experts = std::max(shape_.max_local_experts, static_cast<int>(experts.size()));
      }
    }
  }

  std::vector<std::int64_t> random_num_tokens(bool large) {
    std::vector<std::int64_t> num_tokens(case_.num_ranks);
    std::int64_t others = shape_.max_tokens;
    if (is_large()) others = std::min(others, budget_.num_pairs / (shape_.top_k * case_.num_ranks));
    for (std::int64_t& count : num_tokens) {
      count = random_.one_in(6) ? 0 : random_.one_in(3) ? others : random_.from(0, others);
    }
    if (large) num_tokens[random_.from(0, case_.num_ranks - 1)] = shape_.max_tokens;
    return num_tokens;
  }

  void fill_ids(std::int64_t num_tokens, std::vector<std::int64_t>* ids) {
    enum class Pattern { kAny, kDistinct, kOneExpert, kSkewed, kNeighbours, kNone };
    const auto pattern = random_.pick({Pattern::kAny, Pattern::kAny, Pattern::kDistinct, Pattern::kDistinct, Pattern::kDistinct,
                                       Pattern::kOneExpert, Pattern::kSkewed, Pattern::kNeighbours, Pattern::kNone});
    const int percent_skipped = random_.pick({0, 0, 0, 10, 50, 95});
    const std::int64_t last = shape_.num_experts - 1;
    const std::int64_t favourite = random_.from(0, last);
    ids->resize(num_tokens * shape_.top_k);
    for (std::int64_t token = 0; token < num_tokens; ++token) {
      const std::int64_t first = random_.from(0, last);
      for (int k = 0; k < shape_.top_k; ++k) {
        std::int64_t id = random_.from(0, last);
        if (pattern == Pattern::kDistinct) id = k <= last ? (first + k * 7919 % shape_.num_experts) % shape_.num_experts : -1;
        if (pattern == Pattern::kOneExpert) id = favourite;
        if (pattern == Pattern::kSkewed) id = random_.from(0, random_.from(0, id));
        if (pattern == Pattern::kNeighbours) id = std::min(first + random_.from(0, 3), last);
        if (pattern == Pattern::kNone || random_.from(0, 99) < percent_skipped) id = -1;
        (*ids)[token * shape_.top_k + k] = id;
      }
    }
  }

  void choose_token_sets() {
    const int num_sets = random_.one_in(2) ? 2 : 1;
    for (int set = 0; set < num_sets; ++set) {
      TokenSet tokens;
      tokens.num_tokens = random_num_tokens(is_large() && set == 0);
      tokens.ids.resize(case_.num_ranks);
      const bool with_weights = !random_.one_in(3);
      if (with_weights) tokens.weights.resize(case_.num_ranks);
      for (int rank = 0; rank < case_.num_ranks; ++rank) {
        fill_ids(tokens.num_tokens[rank], &tokens.ids[rank]);
        if (!with_weights) continue;
        const std::uint64_t weights_seed = random_.next();
        const Style style = style_of(weights_seed);
        for (std::size_t pair = 0; pair < tokens.ids[rank].size(); ++pair) {
          tokens.weights[rank].push_back(random_float(seed_of(weights_seed, pair), style));
        }
      }
      case_.token_sets.push_back(std::move(tokens));
    }
  }

  void choose_capacities() {
    std::int64_t num_tokens = 0;
    for (const std::int64_t count : case_.token_sets[0].num_tokens) num_tokens += count;
    const std::int64_t worst = case_.num_ranks * shape_.max_tokens;
    const std::int64_t average = std::clamp<std::int64_t>(num_tokens * copies_per_token() / case_.num_ranks, 1, worst);
    if (shape_.overflow == Overflow::kGrow) {
      shape_.recv_capacity = random_.pick({std::int64_t{0}, std::int64_t{1}, random_.any_magnitude(1, worst)});
    } else {
      shape_.recv_capacity = random_.pick({std::int64_t{0}, average, std::max<std::int64_t>(average / 2, 1), worst});
    }
    if (shape_.mode == Mode::kLatency) shape_.recv_capacity = 0;

    std::int64_t num_places = 1;  // local experts of all ranks
    for (const auto& table : case_.placements) {
      std::int64_t count = shape_.num_experts;
      for (const auto& experts : table.experts_of) count += std::ssize(experts);
      num_places = std::max(num_places, count);
    }
    std::int64_t row_bytes = 0;
    for (const Lane& lane : shape_.lanes) row_bytes += static_cast<std::int64_t>(lane.row_bytes());
    if (shape_.layout == Layout::kExpertContiguous) {
      shape_.expert_alignment = random_.pick({1, 2, 8, 16, 128, static_cast<int>(random_.from(1, 100))});
      if (num_calls_ > 0) shape_.expert_alignment = random_.pick({1, 2, 4});
      const std::int64_t most = std::max<std::int64_t>(2 * budget_.num_bytes / (num_places * row_bytes), 1);
      shape_.expert_alignment = static_cast<int>(std::min<std::int64_t>(shape_.expert_alignment, most));
    } else {
      shape_.expert_alignment = random_.pick({1, 64, 0});
    }
    if (shape_.layout == Layout::kExpertPadded) {
      const std::int64_t most = std::min(worst * shape_.top_k, std::max<std::int64_t>(kMaxPaddedRows / num_places, 1));
      const std::int64_t per_expert = std::max<std::int64_t>(num_tokens * shape_.top_k / shape_.num_experts, 1);
      const auto wanted = random_.pick({std::int64_t{1}, per_expert, per_expert, 2 * per_expert, most});
      shape_.expert_capacity = std::min(wanted, most);
    }
  }

  void add_second_shape() {
    Shape second = shape_;
    choose_lanes(random_.any_magnitude(1, 16) * 16, &second);
    if (second.overflow == Overflow::kGrow && second.mode == Mode::kThroughput) {
      second.recv_capacity = random_.pick({std::int64_t{0}, std::int64_t{1}, case_.num_ranks * second.max_tokens});
    }
    case_.shapes.push_back(second);
  }

  // --- Calls -----------------------------------------------------------------------------------------------------------

  struct Result {
    int plan;
    int token_set;
    int placement;
  };
  struct PlanState {
    int placement = 0;
    int next_slot = 0;
    int next_combine_slot = 0;
    std::array<int, kNumSlots> live{-1, -1};  // results that may be live there
  };
  // A call between its halves. Until it is completed its result must not be touched, nor the slot that it takes.
  struct PendingCall {
    Call call;
    int pending;
    int plan;
    int slot;
    int result;
  };

  int any_plan() { return static_cast<int>(random_.from(0, std::ssize(case_.shapes) - 1)); }

  template <class Condition>
  void complete_if(Condition condition) {
    for (std::size_t i = 0; i < pending_.size();) {
      if (!condition(pending_[i])) {
        ++i;
        continue;
      }
      Step step;
      step.call = Call::kComplete;
      step.plan = pending_[i].plan;
      step.seed = random_.next();
      step.pending = pending_[i].pending;
      step.result = pending_[i].result;
      case_.steps.push_back(step);
      pending_.erase(pending_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  void complete_uses_of(int result) {
    complete_if([&](const PendingCall& call) { return call.result == result; });
  }

  // Any of them, whichever was begun first.
  void complete_one() {
    if (pending_.empty()) return;
    const int chosen = pending_[random_.from(0, std::ssize(pending_) - 1)].pending;
    complete_if([&](const PendingCall& call) { return call.pending == chosen; });
  }

  // Perhaps only begins the call.
  void maybe_split(Step* step, int slot) {
    if (!random_.one_in(3)) return;
    step->pending = num_pending_++;
    pending_.push_back({step->call, step->pending, step->plan, slot, step->result});
  }

  void add_release(int plan, int slot) {
    int& live = plans_[plan].live[slot];
    if (live < 0) return;
    complete_uses_of(live);
    Step step;
    step.call = Call::kRelease;
    step.plan = plan;
    step.seed = random_.next();
    step.result = live;
    case_.steps.push_back(step);
    live = -1;
  }

  // Completes a step that makes a result.
  void add_dispatch(Step step) {
    PlanState& plan = plans_[step.plan];
    step.slot = random_.pick({-1, -1, 0, 1});
    step.slot_used = step.slot >= 0 ? step.slot : plan.next_slot;
    step.placement = plan.placement;
    step.result = case_.num_results++;
    add_release(step.plan, step.slot_used);
    plan.live[step.slot_used] = step.result;
    plan.next_slot = (step.slot_used + 1) % kNumSlots;
    results_.push_back({step.plan, step.token_set, step.placement});
    maybe_split(&step, step.slot_used);
    case_.steps.push_back(step);
  }

  void add_dispatch_of_tokens() {
    Step step;
    step.call = Call::kDispatch;
    step.plan = any_plan();
    step.seed = random_.next();
    step.token_set = static_cast<int>(random_.from(0, std::ssize(case_.token_sets) - 1));
    // Now and then an earlier call once more.
    const Step* earlier = case_.steps.empty() ? nullptr : &case_.steps[random_.from(0, std::ssize(case_.steps) - 1)];
    if (earlier != nullptr && earlier->call == Call::kDispatch) {
      step.plan = earlier->plan;
      step.seed = earlier->seed;
      step.token_set = earlier->token_set;
    }
    add_dispatch(step);
  }

  void complete_dispatch(int result) {
    complete_if([&](const PendingCall& call) { return call.result == result && call.call != Call::kCombine; });
  }

  void add_cached_dispatch() {
    Step step;
    step.call = Call::kCachedDispatch;
    step.plan = any_plan();
    step.seed = random_.next();
    step.routing_of = static_cast<int>(random_.from(0, case_.num_results - 1));
    complete_dispatch(step.routing_of);
    step.token_set = results_[step.routing_of].token_set;
    // A Routing of another placement would be stale.
    if (results_[step.routing_of].placement != plans_[step.plan].placement) return add_dispatch_of_tokens();
    add_dispatch(step);
  }

  void add_combine() {
    Step step;
    step.call = Call::kCombine;
    step.plan = any_plan();
    if (!can_combine(case_.shapes[step.plan])) return add_cached_dispatch();
    step.seed = random_.next();
    step.slot = random_.pick({-1, -1, 0, 1});
    step.result = random_.one_in(2) ? case_.num_results - 1 : static_cast<int>(random_.from(0, case_.num_results - 1));
    step.token_set = results_[step.result].token_set;
    step.placement = results_[step.result].placement;
    step.carries_weights = random_.one_in(3);
    const Shape& shape = case_.shapes[step.plan];
    step.gives_weights = shape.mode == Mode::kLatency && shape.layout != Layout::kCompact && random_.one_in(3);
    complete_uses_of(step.result);
    const int num_calls = random_.one_in(6) ? 2 : 1;  // the same call once more
    for (int i = 0; i < num_calls; ++i) {
      PlanState& plan = plans_[step.plan];
      const int slot_used = step.slot >= 0 ? step.slot : plan.next_combine_slot;
      plan.next_combine_slot = (slot_used + 1) % kNumSlots;
      complete_if([&](const PendingCall& call) {
        return call.call == Call::kCombine && call.plan == step.plan && call.slot == slot_used;
      });
      if (i + 1 == num_calls) maybe_split(&step, slot_used);
      case_.steps.push_back(step);
    }
  }

  void add_place() {
    Step step;
    step.call = Call::kPlace;
    step.plan = any_plan();
    step.placement = static_cast<int>(random_.from(0, std::ssize(case_.placements) - 1));
    plans_[step.plan].placement = step.placement;
    case_.steps.push_back(step);
  }

  void choose_steps() {
    plans_.resize(case_.shapes.size());
    add_dispatch_of_tokens();
    const std::int64_t num_steps = num_calls_ > 0 ? num_calls_ : random_.from(2, case_.num_ranks > 8 || is_large() ? 5 : 9);
    while (std::ssize(case_.steps) < num_steps) {
      if (random_.one_in(2)) complete_one();
      const std::int64_t choice = random_.from(0, 11);
      if (choice < 2) {
        add_dispatch_of_tokens();
      } else if (choice < 5) {
        add_cached_dispatch();
      } else if (choice < 10) {
        add_combine();
      } else if (choice == 10) {
        add_release(any_plan(), static_cast<int>(random_.from(0, kNumSlots - 1)));
      } else if (case_.placements.size() > 1) {
        add_place();
      }
    }
    while (!pending_.empty()) complete_one();
  }

  static constexpr int kNoExtreme = 15;

  RandomBits random_;
  int num_calls_;
  std::optional<Mode> mode_;
  bool uses_float8_;
  int extreme_;
  Budget budget_;
  Case case_;
  Shape shape_;
  std::vector<PlanState> plans_;
  std::vector<Result> results_;
  std::vector<PendingCall> pending_;
  int num_pending_ = 0;
};

}  // namespace

Case make_random_case(std::uint64_t seed, int index, const CaseOptions& options) {
  return CaseMaker(seed, index, options).make();
}

}  // namespace tokenyard::test
