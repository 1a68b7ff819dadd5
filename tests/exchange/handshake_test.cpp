#include "exchange/handshake.hpp"

#include <gtest/gtest.h>

#include <set>

#include "exchange/seal.hpp"
#include "tests/support/exchange_ranks.hpp"

namespace tokenyard {
namespace {

using test::to_bytes;

Nonce filled(int value) {
  Nonce nonce;
  nonce.fill(static_cast<std::byte>(value));
  return nonce;
}

std::string hex(const Mac& mac) {
  std::string text;
  for (const std::byte byte : mac) {
    text += "0123456789abcdef"[std::to_integer<int>(byte >> 4)];
    text += "0123456789abcdef"[std::to_integer<int>(byte & std::byte{15})];
  }
  return text;
}

// RFC 4231, test case 2.
TEST(handshake, macs_are_hmac_sha_256) {
  EXPECT_EQ(hex(hmac(to_bytes("Jefe"), to_bytes("what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

// RFC 7693 has BLAKE2b of "abc" with 64 bytes; with 32 bytes it is this.
TEST(handshake, digests_are_blake2b_256_of_all_parts) {
  const Bytes whole = to_bytes("abc");
  EXPECT_EQ(hex(digest_of({whole})), "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
  EXPECT_EQ(digest_of({to_bytes("a"), to_bytes("bc")}), digest_of({whole}));
}

TEST(handshake, nothing_that_is_proved_can_be_exchanged_for_another) {
  const Hello hello{.num_ranks = 4, .rank = 1, .nonce = filled(1)};
  const Key secret = key_of_secret("a secret that only tests know");
  const auto with = [&](auto change) {
    Hello other = hello;
    change(other);
    return Handshake(secret, other, filled(2)).proof_of_rank();
  };
  const Handshake handshake(secret, hello, filled(2));
  const std::set<Mac> different{
      handshake.proof_of_rank(),
      handshake.proof_of_rank_zero(),
      Mac(*decode_32_bytes(handshake.key_of_rank().bytes())),
      Mac(*decode_32_bytes(handshake.key_of_rank_zero().bytes())),
      with([](Hello& other) { other.num_ranks = 5; }),
      with([](Hello& other) { other.rank = 2; }),
      with([](Hello& other) { other.nonce = filled(3); }),
      Handshake(secret, hello, filled(3)).proof_of_rank(),
      Handshake(secret, {.num_ranks = 4, .rank = 1, .nonce = filled(2)}, filled(1)).proof_of_rank(),
      Handshake(key_of_secret("another secret that tests know"), hello, filled(2)).proof_of_rank(),
  };
  EXPECT_EQ(different.size(), 10u);
  EXPECT_EQ(Handshake(secret, hello, filled(2)).proof_of_rank(), handshake.proof_of_rank());
}

TEST(handshake, nonces_differ) {
  std::set<Nonce> nonces;
  for (int i = 0; i < 1000; ++i) nonces.insert(random_nonce());
  EXPECT_EQ(nonces.size(), 1000u);
}

TEST(handshake, seals_depend_on_the_key_the_frame_and_its_turn) {
  const Key key = key_of_secret("a key");
  Seal sender(key);
  Seal receiver(key);
  const Digest frame = digest_of({to_bytes("frame")});
  const Mac first = sender.next(frame);
  const Mac second = sender.next(frame);
  EXPECT_NE(first, second);
  EXPECT_EQ(receiver.next(frame), first);
  EXPECT_EQ(receiver.next(frame), second);
  EXPECT_NE(Seal(key_of_secret("another key")).next(frame), first);
  EXPECT_NE(Seal(key).next(digest_of({to_bytes("other")})), first);
}

}  // namespace
}  // namespace tokenyard
