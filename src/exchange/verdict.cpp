#include "exchange/verdict.hpp"

#include <algorithm>

#include "tokenyard/shape.hpp"

namespace tokenyard {
namespace {

constexpr std::size_t kNumbersBytes = 16;  // before the text

constexpr char kDelete = 0x7f;

// Control characters could fake lines of a log or steer a terminal.
bool is_control(char character) { return static_cast<unsigned char>(character) < ' ' || character == kDelete; }

int rank_or_none(std::uint32_t number) {
  return number < static_cast<std::uint32_t>(kMaxRanks) ? static_cast<int>(number) : -1;
}

}  // namespace

Bytes encode_verdict(const Verdict& verdict) {
  std::span<const std::byte> text = bytes_of(verdict.text);
  text = text.first(std::min<std::size_t>(text.size(), kMaxVerdictBytes - kNumbersBytes));
  Writer writer(kNumbersBytes + text.size());
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
  verdict.failure.culprit = rank_or_none(reader.take<std::uint32_t>());
  verdict.failure.reporter = rank_or_none(reader.take<std::uint32_t>());
  const std::span<const std::byte> text = reader.take_rest();
  if (!reader.complete() || body.size() > kMaxVerdictBytes) return std::nullopt;
  // Another version may know codes and phases that this one does not.
  verdict.failure.code =
      code <= static_cast<std::uint32_t>(ErrorCode::kSystem) ? static_cast<ErrorCode>(code) : ErrorCode::kDisagreement;
  verdict.failure.phase = phase <= static_cast<std::uint32_t>(Phase::kBarrier) ? static_cast<Phase>(phase) : Phase::kNone;
  verdict.text.assign(reinterpret_cast<const char*>(text.data()), text.size());
  std::replace_if(verdict.text.begin(), verdict.text.end(), is_control, '?');
  return verdict;
}

}  // namespace tokenyard
