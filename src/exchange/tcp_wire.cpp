#include "exchange/tcp_wire.hpp"

#include <algorithm>

#include "exchange/limits.hpp"

namespace tokenyard {
namespace {

constexpr std::size_t kHelloNumbersBytes = 8;  // before the nonce

void put_header(Writer& writer, const FrameHeader& header) {
  writer.put_bytes(bytes_of(kMagic));
  writer.put(header.version);
  writer.put(static_cast<std::uint32_t>(header.type));
  writer.put(header.round);
  writer.put(header.num_body_bytes);
}

}  // namespace

std::uint64_t max_contribution_frame_bytes() { return std::max<std::uint64_t>(kMaxMessageBytes, kMaxVerdictBytes); }

std::uint64_t max_result_frame_bytes(int num_ranks) {
  return std::max<std::uint64_t>(num_ranks * (sizeof(std::uint64_t) + kMaxMessageBytes), kMaxVerdictBytes);
}

Bytes encode_header(const FrameHeader& header) {
  Writer writer(kFrameHeaderBytes);
  put_header(writer, header);
  return writer.take();
}

std::optional<FrameHeader> decode_header(std::span<const std::byte, kFrameHeaderBytes> bytes) {
  Reader reader(bytes);
  if (!reader.take_magic()) return std::nullopt;
  FrameHeader header;
  header.version = reader.take<std::uint32_t>();
  header.type = static_cast<FrameType>(reader.take<std::uint32_t>());
  header.round = reader.take<std::uint64_t>();
  header.num_body_bytes = reader.take<std::uint64_t>();
  return header;
}

const Digest& OutgoingFrame::digest() const {
  if (!digest_) digest_ = digest_of({bytes_});
  return *digest_;
}

SharedFrame make_frame(FrameType type, std::uint64_t round, std::span<const std::byte> body) {
  Writer writer(kFrameHeaderBytes + body.size());
  put_header(writer, {.type = type, .round = round, .num_body_bytes = body.size()});
  writer.put_bytes(body);
  return std::make_shared<const OutgoingFrame>(writer.take());
}

Bytes encode_hello(const Hello& hello) {
  Writer writer(kHelloNumbersBytes + (hello.nonce ? hello.nonce->size() : 0));
  writer.put(hello.num_ranks);
  writer.put(hello.rank);
  if (hello.nonce) writer.put_bytes(*hello.nonce);
  return writer.take();
}

std::optional<Hello> decode_hello(std::span<const std::byte> body) {
  if (body.size() < kHelloNumbersBytes) return std::nullopt;
  Reader reader(body);
  Hello hello;
  hello.num_ranks = reader.take<std::uint32_t>();
  hello.rank = reader.take<std::uint32_t>();
  const std::span<const std::byte> rest = reader.take_rest();
  if (rest.size() >= sizeof(Nonce)) hello.nonce = decode_32_bytes(rest.first<sizeof(Nonce)>());
  return hello;
}

Bytes encode_result(const std::vector<Bytes>& messages) {
  std::size_t num_bytes = messages.size() * sizeof(std::uint64_t);
  for (const Bytes& message : messages) num_bytes += message.size();
  Writer writer(num_bytes);
  for (const Bytes& message : messages) writer.put(static_cast<std::uint64_t>(message.size()));
  for (const Bytes& message : messages) writer.put_bytes(message);
  return writer.take();
}

std::optional<std::vector<Bytes>> decode_result(std::span<const std::byte> body, int num_ranks) {
  Reader reader(body);
  std::vector<std::uint64_t> lengths(num_ranks);
  for (std::uint64_t& length : lengths) length = reader.take<std::uint64_t>();
  std::vector<Bytes> messages;
  messages.reserve(lengths.size());
  for (const std::uint64_t length : lengths) {
    const std::span<const std::byte> message = reader.take_bytes(length);
    messages.emplace_back(message.begin(), message.end());
  }
  if (!reader.complete()) return std::nullopt;
  return messages;
}

Bytes encode_expired(std::uint64_t waited_ms) {
  Writer writer(sizeof(waited_ms));
  writer.put(waited_ms);
  return writer.take();
}

std::optional<std::uint64_t> decode_expired(std::span<const std::byte> body) {
  Reader reader(body);
  const auto waited_ms = reader.take<std::uint64_t>();
  if (!reader.complete()) return std::nullopt;
  return waited_ms;
}

std::optional<std::array<std::byte, 32>> decode_32_bytes(std::span<const std::byte> body) {
  std::array<std::byte, 32> bytes;
  if (body.size() != bytes.size()) return std::nullopt;
  std::copy(body.begin(), body.end(), bytes.begin());
  return bytes;
}

}  // namespace tokenyard
