#include "cli/gpu_goals.hpp"

#include <array>

#include "cli/gpu_operations.hpp"

namespace tokenyard::cli {
namespace {

constexpr GpuLoad kPrefill{4096, 7168, 256, "bfloat16"};
constexpr GpuLoad kPrefillFloat8{4096, 7168, 256, "fp8"};
constexpr GpuLoad kLong{8192, 7168, 256, "bfloat16"};
constexpr GpuLoad kShort{1024, 7168, 256, "bfloat16"};
constexpr GpuLoad kNarrow{4096, 2048, 128, "bfloat16"};

constexpr double kCopied = 1.1;     // what results in ordinary tensors may take of the time in the slot
constexpr double kByEngines = 1.1;  // what copy engines may take of the time of SMs on the link

constexpr std::array kGoals{
    GpuGoal{kPrefill, kDispatchCached, false, 16, 180},
    GpuGoal{kPrefill, kDispatchCached, false, 12, 200},
    GpuGoal{kPrefill, kDispatchCached, true, 24, 180 * kCopied},
    GpuGoal{kPrefill, kCombineInPlace, false, 16, 190},
    GpuGoal{kPrefill, kCombineInPlace, false, 12, 212},
    GpuGoal{kPrefill, kCombine, true, 24, 190 * kCopied},
    GpuGoal{kPrefill, kDispatch, false, 16, 240},
    GpuGoal{kPrefill, kDispatch, true, 24, 260},
    GpuGoal{kPrefill, kDispatchCached, false, 16, 180 * kByEngines, true},
    GpuGoal{kPrefill, kCombineInPlace, false, 16, 190 * kByEngines, true},
    GpuGoal{kPrefillFloat8, kDispatchCached, false, 16, 98},
    GpuGoal{kPrefillFloat8, kDispatchCached, false, 12, 106},
    GpuGoal{kPrefillFloat8, kDispatchCached, true, 24, 98 * kCopied},
    GpuGoal{kLong, kDispatchCached, false, 16, 355},
    GpuGoal{kLong, kCombineInPlace, false, 16, 375},
    GpuGoal{kShort, kDispatchCached, false, 16, 52},
    GpuGoal{kShort, kCombineInPlace, false, 16, 58},
    GpuGoal{kNarrow, kDispatchCached, false, 16, 62},
    GpuGoal{kNarrow, kCombineInPlace, false, 16, 68},
};

}  // namespace

std::span<const GpuGoal> gpu_goals() { return kGoals; }

}  // namespace tokenyard::cli
