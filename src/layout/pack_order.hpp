// In which order a rank packs what it sends for copy engines, and these carry it.
//
// Blocks go pass by pass, in each pass to another rank, or to a few where there are many, and every rank begins with the one
// behind itself. So as long as ranks keep step no two send to the same one: copies that meet there take twice as long. The
// blocks of the first pass are cut into chunks, because copies shall begin early; later ones are packed while those cross. The
// first chunk is not packed: as copies cannot begin before something is, the link is free for rows that are stored at the
// peers. Pieces are numbered: the chunks of the first pass, then one piece per pass. What is packed is complete in this order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "layout/sent_block.hpp"

namespace tokenyard {

// The rank `distance` behind `rank`, from 1 to num_ranks - 1.
constexpr int peer_at(int rank, int distance, int num_ranks) {
  const int peer = rank + distance;
  return peer < num_ranks ? peer : peer - num_ranks;
}

struct PackOrder {
  static constexpr int kMaxPasses = 8;
  static constexpr int kMaxPieces = Chunks::kMaxChunks + kMaxPasses - 1;
  static constexpr int kStoredPiece = 0;  // at the peers; the others are packed
  static constexpr int kFirstPacked = 1;

  int rank = 0;
  int num_ranks = 1;
  int ranks_per_pass = 1;
  int num_passes = 0;  // of rows that go to others; what stays comes behind them
  Chunks chunks{};     // of the first pass's blocks

  static constexpr PackOrder of(int rank, int num_ranks, const Chunks& chunks) {
    const int num_peers = num_ranks - 1;
    const int per_pass = std::max((num_peers + kMaxPasses - 1) / kMaxPasses, 1);
    return {rank, num_ranks, per_pass, (num_peers + per_pass - 1) / per_pass, chunks};
  }

  // num_passes for the rank itself.
  constexpr int pass_of(int destination) const {
    if (destination == rank) return num_passes;
    const int distance = destination > rank ? destination - rank : destination - rank + num_ranks;
    return (distance - 1) / ranks_per_pass;
  }

  constexpr int num_pieces() const { return num_passes == 0 ? 0 : chunks.num_chunks + num_passes - 1; }
  constexpr int pass_of_piece(int piece) const { return std::max(piece - chunks.num_chunks + 1, 0); }
  // Of row `row` of a block of the pass, which has `num_rows`.
  constexpr int piece_of(int pass, std::int64_t row, std::int64_t num_rows) const {
    return pass == 0 ? chunks.chunk_of(row, num_rows) : chunks.num_chunks - 1 + pass;
  }
  // Rows of a block of the piece's pass that lie in the piece: from `begin` to `end` - 1.
  constexpr std::int64_t begin(int piece, std::int64_t num_rows) const {
    return piece < chunks.num_chunks ? chunks.begin(piece, num_rows) : 0;
  }
  constexpr std::int64_t end(int piece, std::int64_t num_rows) const {
    return piece < chunks.num_chunks ? chunks.end(piece, num_rows) : num_rows;
  }
  constexpr std::int64_t num_rows(int piece, std::int64_t num_rows) const {
    return end(piece, num_rows) - begin(piece, num_rows);
  }
  // Of a block of the pass, which has `num_rows`: the first ones, which are stored at the peer.
  constexpr std::int64_t num_stored(int pass, std::int64_t num_rows) const {
    return pass == 0 ? end(kStoredPiece, num_rows) : 0;
  }
};

}  // namespace tokenyard
