#include "cli/text.hpp"

#include <array>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <unordered_map>

#include "base/fail.hpp"

namespace tokenyard::cli {
namespace {

// Not <cctype>: the split must not depend on the locale.
bool is_word_byte(char byte) {
  const auto code = static_cast<unsigned char>(byte);
  return (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z') || (code >= '0' && code <= '9') || code == '_' ||
         code >= 0x80;
}

bool is_separator(char byte) {
  const auto code = static_cast<unsigned char>(byte);
  return code <= ' ' || code == 0x7f;
}

}  // namespace

Text split_text(std::string_view text) {
  Text result;
  std::unordered_map<std::string_view, std::int32_t> known;
  std::size_t start = 0;
  while (start < text.size()) {
    if (is_separator(text[start])) {
      ++start;
      continue;
    }
    std::size_t end = start + 1;
    if (is_word_byte(text[start])) {
      while (end < text.size() && is_word_byte(text[end])) ++end;
    }
    const std::string_view token = text.substr(start, end - start);
    const auto [entry, is_new] = known.try_emplace(token, static_cast<std::int32_t>(result.vocabulary.size()));
    if (is_new) result.vocabulary.emplace_back(token);
    result.tokens.push_back(entry->second);
    start = end;
  }
  return result;
}

std::string read_text_file(const std::string& path) {
  std::string bytes;
  std::FILE* file = std::fopen(path.c_str(), "rb");
  bool has_failed = file == nullptr;
  std::array<char, 65536> buffer;
  while (!has_failed && std::feof(file) == 0) {
    bytes.append(buffer.data(), std::fread(buffer.data(), 1, buffer.size(), file));
    has_failed = std::ferror(file) != 0;
  }
  const int number = errno;
  if (file != nullptr) std::fclose(file);
  if (has_failed) fail(ErrorCode::kSystem, "cannot read \"{}\": {}", path, std::generic_category().message(number));
  return bytes;
}

}  // namespace tokenyard::cli
