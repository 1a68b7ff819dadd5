// Third step of a dispatch where copy engines carry the rows: a rank's rows for each other rank are packed side by side, but
// for the first ones, which go to their final places, as do the rows that it keeps: see PackOrder. Then it waits for the
// copies, and tells the peers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cuda/copy_word.hpp"
#include "kernels/cuda/launch.hpp"
#include "kernels/cuda/segments.hpp"
#include "kernels/cuda/signals.hpp"
#include "layout/pack_order.hpp"
#include "layout/plan_layout.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cuda {

// Device memory through which the blocks of a launch agree, as LaunchState.
struct PackState {
  // Parts of rows, by piece; less those that there are, once that is known.
  std::uint32_t num_packed[PackOrder::kMaxPieces] = {};
  std::uint32_t num_blocks_done = 0;
};

// Memory for rows that are packed: a destination's block begins at its staged_row.
struct Staging {
  std::byte* memory = nullptr;
  DispatchLayout layout{};
};

// Pointers are to device memory, but for the span. Elements are aligned to their size; the Routing as for `push`.
struct PackArgs {
  std::span<const ConstTensorView> lanes{};  // [T, num_elements] each, any strides
  Staging staging{};
  const DispatchLayout* layout = nullptr;  // of the windows
  std::byte* const* windows = nullptr;     // [R]
  int rank = 0;
  int num_ranks = 1;
  std::int64_t num_tokens = 0;
  int max_fan_out = 0;
  const std::int32_t* fan_out = nullptr;      // [T]
  const std::int32_t* destination = nullptr;  // [T, F]
  const std::int64_t* row = nullptr;          // [T, F]
  const SentBlock* sent = nullptr;            // [R]

  // What travels with a row; null in a cached dispatch, whose receivers know it.
  int top_k = 0;
  const std::int32_t* ordinal = nullptr;    // [T, k]
  const std::int32_t* local_idx = nullptr;  // [T, k]
  ConstTensorView topk_weights{};           // f32 [T, k], or empty

  // Rows are packed piece by piece. As soon as a piece is, piece_words[piece] becomes `copies.number`; that of kFirstPacked
  // also waits for the handshake's entry_wait. All do at the end of packing, also if the kernel has failed or its gate is
  // closed: streams wait for these words, and would wait for ever. Where the entry wait fails, all ranks have been told of the
  // failure before.
  Chunks chunks{};                       // of the PackOrder
  std::uint64_t* piece_words = nullptr;  // [num_pieces]; that of kStoredPiece comes when packing is over

  CopyWord copies{};    // that follow, in another stream: the handshake's exit comes behind them; without a word, at once
  Segments segments{};  // with words: of what has been sent all are announced, to peers whose headers ask for that

  Handshake handshake{};  // whoever packs waits for nothing; who stores at peers, and one more warp, for the entry
  LaunchState* state = nullptr;
  PackState* pack_state = nullptr;
};

// Stream-ordered.
void pack_rows(const PackArgs& args, const Launch& launch);

}  // namespace tokenyard::cuda
