// How a rank and rank 0 convince each other that they know the same secret, without saying it.
//
//     rank -> rank 0   kHello      who it is, and a nonce
//     rank <- rank 0   kChallenge  another nonce
//     rank -> rank 0   kAnswer     the rank's proof
//     rank <- rank 0   kAccepted   rank 0's proof
//
// A proof is an HMAC under the secret of who proves, the version, num_ranks, rank and both nonces: fresh nonces make a recorded
// proof worthless, the role a reflected one, and the rest one that was meant for another place. The joining rank proves first:
// whoever merely knocks at rank 0's port receives nothing that a secret could be guessed from. Both derive from the same a key
// per direction, which seals every later frame (seal.hpp).
#pragma once

#include <string_view>

#include "exchange/crypto.hpp"
#include "exchange/tcp_wire.hpp"

namespace tokenyard {

Key key_of_secret(std::string_view secret);

class Handshake {
 public:
  // `hello` has a nonce.
  Handshake(const Key& secret, const Hello& hello, const Nonce& challenge);

  Mac proof_of_rank() const { return prove("rank proves"); }
  Mac proof_of_rank_zero() const { return prove("rank 0 proves"); }
  Key key_of_rank() const { return Key(prove("rank seals")); }
  Key key_of_rank_zero() const { return Key(prove("rank 0 seals")); }

 private:
  Mac prove(std::string_view role) const;

  Key secret_;
  Bytes transcript_;
};

}  // namespace tokenyard
