// Bytes of messages and files. All numbers in them are little-endian.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace tokenyard {

using Bytes = std::vector<std::byte>;

// What every message and file begins with.
inline constexpr std::string_view kMagic = "TOKENYRD";

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

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

// Takes numbers off the front; once something was missing, complete() stays false.
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

  // Whether the magic came first.
  bool take_magic() {
    const std::span<const std::byte> magic = take_bytes(kMagic.size());
    return magic.size() == kMagic.size() && std::memcmp(magic.data(), kMagic.data(), kMagic.size()) == 0;
  }

  bool complete() const { return !short_ && rest_.empty(); }

 private:
  std::span<const std::byte> rest_;
  bool short_ = false;
};

}  // namespace tokenyard
