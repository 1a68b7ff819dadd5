// Real text as tokens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tokenyard::cli {

struct Text {
  std::vector<std::int32_t> tokens;     // one vocabulary index per token, in the order of the text
  std::vector<std::string> vocabulary;  // every distinct token once, in the order of first appearance
};

// A token is a word, i.e. as many ASCII letters, digits, underscores and bytes of non-ASCII characters as stand together, or
// one ASCII character of any other kind. White space and control characters separate tokens and are none. Case counts.
Text split_text(std::string_view text);

// The bytes of a file. Throws Error(kSystem) with the path and the reason.
std::string read_text_file(const std::string& path);

}  // namespace tokenyard::cli
