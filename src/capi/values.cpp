// Names of values, and the proof that the two interfaces number them alike.
#include "capi/values.hpp"

#include "tokenyard/exchange.hpp"
#include "tokenyard/group.hpp"
#include "tokenyard/log.hpp"
#include "tokenyard/plan.hpp"
#include "tokenyard/quantize.hpp"
#include "tokenyard/router.hpp"
#include "tokenyard/shape.hpp"
#include "tokenyard/version.hpp"
#include "tokenyard/window.hpp"

namespace tokenyard::capi {
namespace {

template <class Enum>
constexpr bool same(int in_c, Enum in_cpp) {
  return in_c == static_cast<int>(in_cpp);
}

static_assert(status_of(ErrorCode::kInvalidArgument) == TY_INVALID_ARGUMENT && status_of(ErrorCode::kStale) == TY_STALE &&
              status_of(ErrorCode::kDisagreement) == TY_DISAGREEMENT && status_of(ErrorCode::kTimeout) == TY_TIMEOUT &&
              status_of(ErrorCode::kPeerLost) == TY_PEER_LOST && status_of(ErrorCode::kUnsupported) == TY_UNSUPPORTED &&
              status_of(ErrorCode::kSystem) == TY_SYSTEM);
static_assert(same(TY_PHASE_NONE, Phase::kNone) && same(TY_PHASE_RENDEZVOUS, Phase::kRendezvous) &&
              same(TY_PHASE_MAPPING, Phase::kMapping) && same(TY_PHASE_DISPATCH_FREE, Phase::kDispatchFree) &&
              same(TY_PHASE_DISPATCH_COUNTS, Phase::kDispatchCounts) && same(TY_PHASE_DISPATCH_ROWS, Phase::kDispatchRows) &&
              same(TY_PHASE_COMBINE_FREE, Phase::kCombineFree) && same(TY_PHASE_COMBINE_WEIGHTS, Phase::kCombineWeights) &&
              same(TY_PHASE_COMBINE_ROWS, Phase::kCombineRows) && same(TY_PHASE_COMBINE_READ, Phase::kCombineRead) &&
              same(TY_PHASE_WINDOW_WAIT, Phase::kWindowWait) && same(TY_PHASE_BARRIER, Phase::kBarrier));
static_assert(same(TY_LOG_DEBUG, LogLevel::kDebug) && same(TY_LOG_INFO, LogLevel::kInfo) &&
              same(TY_LOG_WARNING, LogLevel::kWarning) && same(TY_LOG_ERROR, LogLevel::kError) &&
              same(TY_LOG_OFF, LogLevel::kOff));
static_assert(TY_MAX_DIMS == TensorView::kMaxDims && TY_SCALE_BLOCK == kScaleBlock);
static_assert(same(TY_BYTE, DataType::kByte) && same(TY_FLOAT8_E4M3, DataType::kFloat8E4M3) &&
              same(TY_UE8M0, DataType::kUE8M0) && same(TY_FLOAT16, DataType::kFloat16) &&
              same(TY_BFLOAT16, DataType::kBFloat16) && same(TY_FLOAT32, DataType::kFloat32) &&
              same(TY_FLOAT64, DataType::kFloat64) && same(TY_INT32, DataType::kInt32) && same(TY_INT64, DataType::kInt64));
static_assert(same(TY_WAITING_AUTO, Waiting::kAuto) && same(TY_WAITING_SPIN, Waiting::kSpin) &&
              same(TY_WAITING_YIELD, Waiting::kYield));
static_assert(same(TY_COMPARE_EQUAL, Compare::kEqual) && same(TY_COMPARE_NOT_EQUAL, Compare::kNotEqual) &&
              same(TY_COMPARE_GREATER_EQUAL, Compare::kGreaterEqual));
static_assert(TY_LOCAL_DEVICE == kLocalDevice);
static_assert(same(TY_COPIES_CHOSEN, Copies::kChosen) && same(TY_COPIES_BULK, Copies::kBulk) &&
              same(TY_COPIES_PLAIN, Copies::kPlain) && same(TY_COPIES_ENGINE, Copies::kEngine));
static_assert(same(TY_MODE_THROUGHPUT, Mode::kThroughput) && same(TY_MODE_LATENCY, Mode::kLatency));
static_assert(same(TY_LAYOUT_COMPACT, Layout::kCompact) && same(TY_LAYOUT_EXPERT_CONTIGUOUS, Layout::kExpertContiguous) &&
              same(TY_LAYOUT_EXPERT_PADDED, Layout::kExpertPadded));
static_assert(same(TY_OVERFLOW_GROW, Overflow::kGrow) && same(TY_OVERFLOW_DROP, Overflow::kDrop));
static_assert(same(TY_SCALE_FLOAT32, ScaleFormat::kFloat32) &&
              same(TY_SCALE_FLOAT32_POWER_OF_2, ScaleFormat::kFloat32PowerOf2) && same(TY_SCALE_UE8M0, ScaleFormat::kUE8M0));
static_assert(same(TY_SCORING_SOFTMAX, Scoring::kSoftmax) && same(TY_SCORING_SIGMOID, Scoring::kSigmoid));

}  // namespace
}  // namespace tokenyard::capi

using namespace tokenyard;

uint32_t ty_abi_version(void) { return TY_ABI_VERSION; }
const char* ty_version(void) { return version(); }
uint32_t ty_wire_version(void) { return kWireVersion; }

const char* ty_status_name(ty_status status) {
  if (status > TY_OK && status <= TY_SYSTEM) return to_string(static_cast<ErrorCode>(status - 1));
  switch (status) {
    case TY_OK: return "ok";
    case TY_OUT_OF_MEMORY: return "out of memory";
    case TY_INTERNAL: return "internal error";
    default: return "unknown status";
  }
}

const char* ty_phase_name(ty_phase phase) {
  return phase >= 0 && phase <= TY_PHASE_BARRIER ? to_string(static_cast<Phase>(phase)) : "unknown phase";
}

size_t ty_data_type_size(ty_data_type dtype) {
  return dtype >= 0 && dtype <= TY_INT64 ? size_of(static_cast<DataType>(dtype)) : 0;
}

const char* ty_data_type_name(ty_data_type dtype) {
  return dtype >= 0 && dtype <= TY_INT64 ? to_string(static_cast<DataType>(dtype)) : "unknown type";
}

uint16_t ty_float_to_bfloat16(float value) { return float_to_bfloat16(value); }
uint16_t ty_float_to_float16(float value) { return float_to_float16(value); }
uint8_t ty_float_to_float8_e4m3(float value) { return float_to_float8_e4m3(value); }
float ty_bfloat16_to_float(uint16_t bits) { return bfloat16_to_float(bits); }
float ty_float16_to_float(uint16_t bits) { return float16_to_float(bits); }
float ty_float8_e4m3_to_float(uint8_t bits) { return float8_e4m3_to_float(bits); }
float ty_ue8m0_to_float(uint8_t bits) { return ue8m0_to_float(bits); }
