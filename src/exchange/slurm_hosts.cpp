#include "exchange/slurm_hosts.hpp"

#include <algorithm>
#include <cstddef>

namespace tokenyard {
namespace {

bool is_digit(char character) { return character >= '0' && character <= '9'; }

bool is_of_name(char character) {
  return is_digit(character) || (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
         character == '-' || character == '.' || character == '_';
}

bool is_number(std::string_view text) { return !text.empty() && std::all_of(text.begin(), text.end(), is_digit); }

// Takes the part before the next `separator`, and the separator, off the front.
std::string_view take_until(std::string_view& text, char separator) {
  const std::size_t end = std::min(text.find(separator), text.size());
  const std::string_view front = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return front;
}

// What stands in brackets: numbers and ranges of them, zeros in front included. Adds the first to `hosts`.
bool expand_brackets(std::string_view numbers, SlurmHosts& hosts) {
  if (numbers.empty() || numbers.back() == ',') return false;
  bool is_first = true;
  while (!numbers.empty()) {
    std::string_view high = take_until(numbers, ',');
    const bool is_range = high.find('-') != std::string_view::npos;
    const std::string_view low = is_range ? take_until(high, '-') : high;
    if (!is_number(low) || !is_number(high)) return false;
    if (is_first) hosts.first += low;
    if (!is_first || low != high) hosts.is_alone = false;
    is_first = false;
  }
  return true;
}

}  // namespace

std::optional<SlurmHosts> parse_slurm_hosts(std::string_view list) {
  SlurmHosts hosts{.first = {}, .is_alone = true};
  while (!list.empty() && list.front() != ',') {
    const char character = list.front();
    list.remove_prefix(1);
    if (is_of_name(character)) {
      hosts.first += character;
    } else if (character == '[') {
      if (list.find(']') == std::string_view::npos || !expand_brackets(take_until(list, ']'), hosts)) return std::nullopt;
    } else {
      return std::nullopt;
    }
  }
  if (hosts.first.empty() || list == ",") return std::nullopt;
  if (!list.empty()) hosts.is_alone = false;
  return hosts;
}

}  // namespace tokenyard
