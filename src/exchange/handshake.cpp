#include "exchange/handshake.hpp"

namespace tokenyard {
namespace {

constexpr std::string_view kPurpose = "tokenyard rendezvous";

Bytes transcript_of(const Hello& hello, const Nonce& challenge) {
  Writer writer(3 * sizeof(std::uint32_t) + 2 * sizeof(Nonce));
  writer.put(std::uint32_t{kWireVersion});
  writer.put(hello.num_ranks);
  writer.put(hello.rank);
  writer.put_bytes(hello.nonce.value());
  writer.put_bytes(challenge);
  return writer.take();
}

}  // namespace

Key key_of_secret(std::string_view secret) { return Key(hmac(bytes_of(kPurpose), bytes_of(secret))); }

Handshake::Handshake(const Key& secret, const Hello& hello, const Nonce& challenge)
    : secret_(secret), transcript_(transcript_of(hello, challenge)) {}

Mac Handshake::prove(std::string_view role) const {
  // The transcript has a fixed length, so where the role begins is never in doubt.
  Writer writer(transcript_.size() + role.size());
  writer.put_bytes(transcript_);
  writer.put_bytes(bytes_of(role));
  return hmac(secret_.bytes(), writer.take());
}

}  // namespace tokenyard
