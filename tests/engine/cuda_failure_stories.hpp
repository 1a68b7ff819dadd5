// What can go wrong among ranks on GPUs, told once for ranks as threads and as processes: who is told what, and how they go on.
#pragma once

#include <cstdint>
#include <vector>

#include "tests/engine/cuda_small_rank.hpp"

namespace tokenyard::test {

enum class CudaCall : std::uint8_t { kSizedDispatch, kCapacityDispatch, kCachedDispatch, kCombine, kCombineInPlace };

struct CudaSilence {
  const char* name;
  CudaCall call;
  Phase phase;
  Copies copies = Copies::kChosen;  // of calls with a Routing
};
const std::vector<CudaSilence>& cuda_silences();
const std::vector<CudaSilence>& cuda_silences_by_engines();  // every rank needs a GPU of its own

// Each is collective, and begins and ends with a group that is well.
void rank_0_keeps_silent(CudaSmallRank& rank, const CudaSilence& silence);
void rank_1_gives_a_bad_id(CudaSmallRank& rank, const Plan& plan, std::int32_t id);

struct CudaDisagreement {
  struct Stage;
  const char* name;
  void (*of_others)(const Stage&);
  void (*of_rank_1)(const Stage&);
  ErrorCode code;
};
const std::vector<CudaDisagreement>& cuda_disagreements();
void rank_1_makes_another_call(CudaSmallRank& rank, const CudaDisagreement& disagreement);

}  // namespace tokenyard::test
