// Both halves of a combine in one launch: some blocks send contributions home, the others sum what has come, segment by
// segment.
#pragma once

#include "kernels/cuda/fold.hpp"
#include "kernels/cuda/reduce.hpp"
#include "kernels/cuda/segments.hpp"
#include "layout/sent_block.hpp"

namespace tokenyard::cuda {

// `as_float8` must be false. Handshake and state are those of `reduce`: with the entry post and wait `enter`, and header
// checks; `data` is posted when all has been sent, whatever the handshake says.
struct FoldReduceArgs {
  FoldArgs fold{};
  ReduceArgs reduce{};
  // Segments of contributions are announced to all homes; the header says so. Those of peers whose headers say nothing of
  // segments are awaited as a whole, with their `data`.
  Segments segments{};
  const SentBlock* sent = nullptr;  // [R]: where this rank's tokens stand at each rank that they visited
};

// Stream-ordered, capturable. The same bits as fold and reduce.
void fold_and_reduce(const FoldReduceArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
