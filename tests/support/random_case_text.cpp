#include <fmt/core.h>

#include "tests/support/random_case.hpp"

namespace tokenyard::test {
namespace {

template <class Numbers>
std::string list(const Numbers& numbers) {
  std::string text = "[";
  for (std::size_t i = 0; i < numbers.size(); ++i) text += fmt::format("{}{}", i == 0 ? "" : " ", numbers[i]);
  return text + "]";
}

std::string describe(const Lane& lane) {
  return fmt::format("{} x {}{}", lane.num_elements, to_string(lane.dtype), lane.column_major ? " by columns" : "");
}

const char* describe(ScaleFormat format) {
  switch (format) {
    case ScaleFormat::kFloat32: return "float32 scales";
    case ScaleFormat::kFloat32PowerOf2: return "scales that are powers of two";
    case ScaleFormat::kUE8M0: return "ue8m0 scales";
  }
  return "";
}

std::string describe(const Shape& shape) {
  std::string text =
      fmt::format("{} mode, {} experts, top-{}, at most {} tokens, {}, {}", to_string(shape.mode), shape.num_experts,
                  shape.top_k, shape.max_tokens, to_string(shape.layout), shape.overflow == Overflow::kDrop ? "drop" : "grow");
  text += fmt::format(", alignment {}, expert capacity {}, recv capacity {}, max local experts {}; lanes",
                      shape.expert_alignment, shape.expert_capacity, shape.recv_capacity, shape.max_local_experts);
  for (const Lane& lane : shape.lanes) text += fmt::format(" ({})", describe(lane));
  if (shape.quantization.has_value()) {
    text +=
        fmt::format("; quantised from {} with {}", to_string(shape.quantization->from), describe(shape.quantization->format));
  }
  if (shape.combine_as_float8) text += "; contributions return as float8";
  if (shape.combine.has_value()) text += fmt::format("; combine ({})", describe(*shape.combine));
  return text;
}

std::string describe(const PlacementTable& table) {
  if (table.experts_of.empty()) return "contiguous";
  std::string text;
  for (const auto& experts : table.experts_of) {
    text += experts.size() <= 24 ? list(experts) : fmt::format("[{} experts from {}]", experts.size(), experts[0]);
  }
  return text;
}

}  // namespace

std::string describe(const Step& step) {
  const std::string on_plan =
      fmt::format("plan {}{}", step.plan, step.pending >= 0 ? fmt::format(" (begun as call {})", step.pending) : "");
  switch (step.call) {
    case Call::kDispatch:
      return fmt::format("result {} = dispatch token set {} on {}, slot {} (is {}), placement {}, seed {:x}", step.result,
                         step.token_set, on_plan, step.slot, step.slot_used, step.placement, step.seed);
    case Call::kCachedDispatch:
      return fmt::format("result {} = cached dispatch with the Routing of result {} on {}, slot {} (is {}), seed {:x}",
                         step.result, step.routing_of, on_plan, step.slot, step.slot_used, step.seed);
    case Call::kCombine:
      return fmt::format("combine with the Routing of result {} on {}, slot {}, {}{}seed {:x}", step.result, on_plan, step.slot,
                         step.carries_weights ? "carrying weights, " : "", step.gives_weights ? "given weights, " : "",
                         step.seed);
    case Call::kComplete: return fmt::format("complete call {}", step.pending);
    case Call::kRelease: return fmt::format("release result {}", step.result);
    case Call::kPlace: return fmt::format("place placement {} on {}", step.placement, on_plan);
  }
  return {};
}

std::string describe(const Case& random_case) {
  std::string text = fmt::format("{} ranks{}{}\n", random_case.num_ranks, random_case.shake ? ", shaken" : "",
                                 random_case.spin ? ", spinning" : "");
  for (const Shape& shape : random_case.shapes) text += fmt::format("shape: {}\n", describe(shape));
  for (const PlacementTable& table : random_case.placements) text += fmt::format("placement: {}\n", describe(table));
  for (const TokenSet& tokens : random_case.token_sets) {
    text += fmt::format("tokens: {}{}\n", list(tokens.num_tokens), tokens.weights.empty() ? "" : ", with weights");
  }
  for (std::size_t i = 0; i < random_case.steps.size(); ++i) text += fmt::format("{}. {}\n", i, describe(random_case.steps[i]));
  return text;
}

}  // namespace tokenyard::test
