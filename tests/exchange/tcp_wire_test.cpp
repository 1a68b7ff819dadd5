#include "exchange/tcp_wire.hpp"

#include <gtest/gtest.h>

#include "tests/support/exchange_ranks.hpp"

namespace tokenyard {
namespace {

using test::to_bytes;

TEST(tcp_wire, a_hello_has_the_same_bytes_on_every_host) {
  const Bytes body = encode_hello({.num_ranks = 0x0102, .rank = 3});
  const SharedFrame frame = make_frame(FrameType::kHello, 0, body);
  std::string expected = "TOKENYRD";
  expected += static_cast<char>(kWireVersion) + std::string("\x00\x00\x00", 3);
  expected += std::string("\x01\x00\x00\x00", 4);                  // type
  expected += std::string("\x00\x00\x00\x00\x00\x00\x00\x00", 8);  // round
  expected += std::string("\x08\x00\x00\x00\x00\x00\x00\x00", 8);  // length of the body
  expected += std::string("\x02\x01\x00\x00\x03\x00\x00\x00", 8);
  EXPECT_EQ(frame->bytes(), to_bytes(expected));
}

TEST(tcp_wire, a_hello_carries_a_nonce_if_there_is_a_secret) {
  Nonce nonce;
  nonce.fill(std::byte{7});
  const Bytes body = encode_hello({.num_ranks = 2, .rank = 1, .nonce = nonce});
  EXPECT_EQ(body.size(), 40u);
  EXPECT_EQ(decode_hello(body)->nonce, nonce);
  EXPECT_FALSE(decode_hello(encode_hello({.num_ranks = 2, .rank = 1}))->nonce);
}

TEST(tcp_wire, a_hello_of_a_later_version_is_still_read) {
  Bytes body = encode_hello({.num_ranks = 5, .rank = 4});
  body.resize(1000);
  const auto hello = decode_hello(body);
  ASSERT_TRUE(hello);
  EXPECT_EQ(hello->num_ranks, 5u);
  EXPECT_EQ(hello->rank, 4u);
}

TEST(tcp_wire, headers_survive_the_way) {
  const Bytes bytes = encode_header({.version = 7, .type = FrameType::kResult, .round = 1ull << 40, .num_body_bytes = 12345});
  const auto header = decode_header(std::span<const std::byte, kFrameHeaderBytes>(bytes));
  ASSERT_TRUE(header);
  EXPECT_EQ(header->version, 7u);
  EXPECT_EQ(header->type, FrameType::kResult);
  EXPECT_EQ(header->round, 1ull << 40);
  EXPECT_EQ(header->num_body_bytes, 12345u);
}

TEST(tcp_wire, bytes_without_the_magic_are_no_header) {
  const Bytes bytes = to_bytes("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n");
  EXPECT_FALSE(decode_header(std::span(bytes).first<kFrameHeaderBytes>()));
}

TEST(tcp_wire, results_survive_the_way_and_no_cut_does) {
  const std::vector<Bytes> messages{to_bytes("abc"), {}, to_bytes("defgh")};
  const Bytes body = encode_result(messages);
  EXPECT_EQ(decode_result(body, 3), messages);
  EXPECT_FALSE(decode_result(body, 2));
  EXPECT_FALSE(decode_result(body, 4));
  for (std::size_t length = 0; length < body.size(); ++length) EXPECT_FALSE(decode_result(std::span(body).first(length), 3));
}

TEST(tcp_wire, lengths_beyond_the_body_are_refused) {
  Bytes body = encode_result({to_bytes("abc")});
  for (std::size_t i = 0; i < 8; ++i) body[i] = std::byte{0xff};
  EXPECT_FALSE(decode_result(body, 1));
}

TEST(tcp_wire, verdicts_survive_the_way) {
  const Verdict verdict = make_verdict(ErrorCode::kPeerLost, 5, 0, "rank 5 has left");
  const auto decoded = decode_verdict(encode_verdict(verdict));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->failure.code, ErrorCode::kPeerLost);
  EXPECT_EQ(decoded->failure.phase, Phase::kRendezvous);
  EXPECT_EQ(decoded->failure.culprit, 5);
  EXPECT_EQ(decoded->failure.reporter, 0);
  EXPECT_EQ(decoded->text, "rank 5 has left");
  EXPECT_FALSE(decode_verdict(to_bytes("too short")));
}

TEST(tcp_wire, a_verdict_of_a_later_version_is_still_read) {
  Bytes body = encode_verdict(make_verdict(ErrorCode::kSystem, -1, 0, "something new"));
  body[0] = std::byte{200};
  body[4] = std::byte{200};
  const auto decoded = decode_verdict(body);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->failure.code, ErrorCode::kDisagreement);
  EXPECT_EQ(decoded->failure.phase, Phase::kNone);
  EXPECT_EQ(decoded->failure.culprit, -1);
}

TEST(tcp_wire, a_verdict_of_a_stranger_cannot_steer_a_terminal_or_name_an_impossible_rank) {
  const auto decoded = decode_verdict(encode_verdict(make_verdict(ErrorCode::kTimeout, 1 << 20, -7, "a\nfake\x1b[2Jline\x7f")));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->text, "a?fake?[2Jline?");
  EXPECT_EQ(decoded->failure.culprit, -1);
  EXPECT_EQ(decoded->failure.reporter, -1);
}

TEST(tcp_wire, a_long_verdict_fits_its_frame) {
  EXPECT_LE(encode_verdict(make_verdict(ErrorCode::kSystem, 0, 0, std::string(1 << 20, 'x'))).size(), kMaxVerdictBytes);
}

}  // namespace
}  // namespace tokenyard
