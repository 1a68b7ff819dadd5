#include "layout/pack_order.hpp"

#include <gtest/gtest.h>

#include <set>

namespace tokenyard {
namespace {

constexpr Chunks kChunks{.num_chunks = 3, .ends = {10, 30, 64}};

TEST(pack_order, every_row_lies_in_one_piece_of_its_ranks_pass) {
  for (const int num_ranks : {1, 2, 3, 8, 9, 10, 40}) {
    for (int rank = 0; rank < num_ranks; ++rank) {
      const PackOrder order = PackOrder::of(rank, num_ranks, kChunks);
      EXPECT_LE(order.num_passes, PackOrder::kMaxPasses);
      EXPECT_LE(order.num_pieces(), PackOrder::kMaxPieces);
      EXPECT_EQ(order.pass_of(rank), order.num_passes);
      for (int peer = 0; peer < num_ranks; ++peer) {
        if (peer == rank) continue;
        for (const std::int64_t num_rows : {0, 1, 7, 100}) {
          std::int64_t row = 0;
          for (int piece = 0; piece < order.num_pieces(); ++piece) {
            if (order.pass_of_piece(piece) != order.pass_of(peer)) continue;
            EXPECT_EQ(order.begin(piece, num_rows), row);
            for (; row < order.end(piece, num_rows); ++row) {
              EXPECT_EQ(order.piece_of(order.pass_of(peer), row, num_rows), piece);
            }
          }
          EXPECT_EQ(row, num_rows);
        }
      }
    }
  }
}

TEST(pack_order, at_no_place_two_ranks_send_to_the_same_one) {
  constexpr int kNumRanks = 5;
  for (int distance = 1; distance < kNumRanks; ++distance) {
    std::set<int> peers;
    for (int rank = 0; rank < kNumRanks; ++rank) {
      const PackOrder order = PackOrder::of(rank, kNumRanks, kChunks);
      const int peer = peer_at(rank, distance, kNumRanks);
      peers.insert(peer);
      EXPECT_EQ(order.pass_of(peer), distance - 1);
    }
    EXPECT_EQ(peers.size(), kNumRanks);
  }
}

}  // namespace
}  // namespace tokenyard
