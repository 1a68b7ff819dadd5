#include "exchange/tcp_wire.hpp"

#include <algorithm>
#include <concepts>
#include <cstring>
#include <string_view>
#include <utility>

#include "exchange/limits.hpp"

namespace tokenyard {
namespace {

constexpr std::string_view kMagic = "TOKENYRD";
constexpr std::size_t kHelloBytes = 8;            // of this version
constexpr std::size_t kVerdictNumbersBytes = 16;  // before the text

// Fills a buffer whose length is known beforehand.
class Writer {
 public:
  explicit Writer(std::size_t num_bytes) : bytes_(num_bytes) {}

  template <std::unsigned_integral Number>
  void put(Number number) {
    for (std::size_t i = 0; i < sizeof(Number); ++i) bytes_[num_written_++] = static_cast<std::byte>(number >> (8 * i) & 0xff);
  }

  void put_bytes(std::span<const std::byte> bytes) {
    if (!bytes.empty()) std::memcpy(&bytes_[num_written_], bytes.data(), bytes.size());
    num_written_ += bytes.size();
  }

  Bytes take() { return std::move(bytes_); }

 private:
  Bytes bytes_;
  std::size_t num_written_ = 0;
};

void put_header(Writer& writer, const FrameHeader& header) {
  writer.put_bytes(std::as_bytes(std::span(kMagic)));
  writer.put(header.version);
  writer.put(static_cast<std::uint32_t>(header.type));
  writer.put(header.round);
  writer.put(header.num_body_bytes);
}

// Takes numbers off the front of a body; once something was missing, complete() stays false.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}

  template <std::unsigned_integral Number>
  Number take() {
    const std::span<const std::byte> bytes = take_bytes(sizeof(Number));
    Number number = 0;
    for (std::size_t i = 0; i < bytes.size(); ++i) number |= static_cast<Number>(std::to_integer<Number>(bytes[i]) << (8 * i));
    return number;
  }

  std::span<const std::byte> take_bytes(std::uint64_t num_bytes) {
    if (num_bytes > rest_.size()) {
      short_ = true;
      return {};
    }
    const std::span<const std::byte> front = rest_.first(num_bytes);
    rest_ = rest_.subspan(num_bytes);
    return front;
  }

  std::span<const std::byte> take_rest() { return take_bytes(rest_.size()); }

  bool complete() const { return !short_ && rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
  bool short_ = false;
};

}  // namespace

std::uint64_t max_contribution_frame_bytes() { return std::max<std::uint64_t>(kMaxMessageBytes, kMaxFailedBytes); }

std::uint64_t max_result_frame_bytes(int num_ranks) {
  return std::max<std::uint64_t>(num_ranks * (sizeof(std::uint64_t) + kMaxMessageBytes), kMaxFailedBytes);
}

Bytes encode_header(const FrameHeader& header) {
  Writer writer(kFrameHeaderBytes);
  put_header(writer, header);
  return writer.take();
}

std::optional<FrameHeader> decode_header(std::span<const std::byte, kFrameHeaderBytes> bytes) {
  Reader reader(bytes);
  const std::span<const std::byte> magic = reader.take_bytes(kMagic.size());
  if (std::memcmp(magic.data(), kMagic.data(), kMagic.size()) != 0) return std::nullopt;
  FrameHeader header;
  header.version = reader.take<std::uint32_t>();
  header.type = static_cast<FrameType>(reader.take<std::uint32_t>());
  header.round = reader.take<std::uint64_t>();
  header.num_body_bytes = reader.take<std::uint64_t>();
  return header;
}

SharedBytes make_frame(FrameType type, std::uint64_t round, std::span<const std::byte> body) {
  Writer writer(kFrameHeaderBytes + body.size());
  put_header(writer, {.type = type, .round = round, .num_body_bytes = body.size()});
  writer.put_bytes(body);
  return std::make_shared<const Bytes>(writer.take());
}

Bytes encode_hello(const Hello& hello) {
  Writer writer(kHelloBytes);
  writer.put(hello.num_ranks);
  writer.put(hello.rank);
  return writer.take();
}

std::optional<Hello> decode_hello(std::span<const std::byte> body) {
  if (body.size() < kHelloBytes) return std::nullopt;
  Reader reader(body);
  Hello hello;
  hello.num_ranks = reader.take<std::uint32_t>();
  hello.rank = reader.take<std::uint32_t>();
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

Bytes encode_verdict(const Verdict& verdict) {
  std::span<const std::byte> text = std::as_bytes(std::span(verdict.text));
  text = text.first(std::min<std::size_t>(text.size(), kMaxFailedBytes - kVerdictNumbersBytes));
  Writer writer(kVerdictNumbersBytes + text.size());
  writer.put(static_cast<std::uint32_t>(verdict.failure.code));
  writer.put(static_cast<std::uint32_t>(verdict.failure.phase));
  writer.put(static_cast<std::uint32_t>(verdict.failure.culprit));
  writer.put(static_cast<std::uint32_t>(verdict.failure.reporter));
  writer.put_bytes(text);
  return writer.take();
}

std::optional<Verdict> decode_verdict(std::span<const std::byte> body) {
  Reader reader(body);
  const auto code = reader.take<std::uint32_t>();
  const auto phase = reader.take<std::uint32_t>();
  Verdict verdict;
  verdict.failure.culprit = static_cast<int>(reader.take<std::uint32_t>());
  verdict.failure.reporter = static_cast<int>(reader.take<std::uint32_t>());
  const std::span<const std::byte> text = reader.take_rest();
  if (!reader.complete()) return std::nullopt;
  // Another version may know codes and phases that this one does not.
  verdict.failure.code =
      code <= static_cast<std::uint32_t>(ErrorCode::kSystem) ? static_cast<ErrorCode>(code) : ErrorCode::kDisagreement;
  verdict.failure.phase = phase <= static_cast<std::uint32_t>(Phase::kBarrier) ? static_cast<Phase>(phase) : Phase::kNone;
  verdict.text.assign(reinterpret_cast<const char*>(text.data()), text.size());
  return verdict;
}

}  // namespace tokenyard
