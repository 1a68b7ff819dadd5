// What somebody who does not know the secret could send to rank 0.
#pragma once

#include <cstdint>
#include <vector>

#include "exchange/bytes.hpp"
#include "exchange/handshake.hpp"
#include "tests/support/random_bits.hpp"

namespace tokenyard::test {

// What an honest rank once said, word for word.
struct Recording {
  Bytes hello;
  Bytes answer;
  Bytes proof_of_rank_zero;  // rank 0's kAccepted, which a rank's answer must not be taken for
  std::vector<Bytes> later;  // sealed frames
};

// Joins, talks and leaves through somebody who listens. `num_ranks` ranks with this secret.
Recording record_honest_rank(int num_ranks, const char* secret);

Bytes random_bytes(RandomBits& random, std::size_t num_bytes);

// Flips some bits, cuts the end, doubles a part or appends something.
Bytes mutated(RandomBits& random, Bytes bytes);

// A header that may be right and a body that may be what it announces.
Bytes random_frame(RandomBits& random);

// A hello with a nonce; the numbers are those of an honest rank or others.
Bytes hostile_hello(RandomBits& random, int num_ranks);

struct Tally {
  std::uint64_t num_messages = 0;
  std::uint64_t num_connections = 0;
};

// Has one conversation of a random kind at the port. Returns false if nobody listens there any more.
bool converse(RandomBits& random, std::uint16_t port, int num_ranks, const Recording& recording, Tally& tally);

}  // namespace tokenyard::test
