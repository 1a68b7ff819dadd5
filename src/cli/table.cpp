#include "cli/table.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>

namespace tokenyard::cli {
namespace {

// Characters, not bytes: continuation bytes of UTF-8 take no place on the screen.
std::size_t width_of(const std::string& text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char byte) { return (byte & 0xc0) != 0x80; }));
}

}  // namespace

std::string Table::to_string(std::size_t indent) const {
  std::vector<std::size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t column = 0; column < row.size(); ++column)
      widths[column] = std::max(widths[column], width_of(row[column]));
  }
  std::size_t total_width = 0;
  for (std::size_t width : widths) total_width += width + 2;

  std::string text;
  for (const auto& row : rows_) {
    text.append(indent, ' ');
    if (row.empty()) {
      text.append(total_width - 2, '-');
    }
    std::string line;
    for (std::size_t column = 0; column < row.size(); ++column) {
      const std::string padding(widths[column] - width_of(row[column]), ' ');
      if (column > 0) line += "  ";
      line += column < num_left_columns_ ? row[column] + padding : padding + row[column];
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line;
    text += '\n';
  }
  return text;
}

std::string with_commas(std::int64_t number) {
  std::string digits = std::to_string(number);
  const std::size_t first = number < 0 ? 1 : 0;
  for (std::size_t position = digits.size(); position > first + 3;) {
    position -= 3;
    digits.insert(position, 1, ',');
  }
  return digits;
}

std::string human_bytes(std::int64_t num_bytes) {
  static constexpr std::array<const char*, 5> kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  auto amount = static_cast<double>(num_bytes);
  std::size_t unit = 0;
  while (amount >= 1024 && unit + 1 < kUnits.size()) {
    amount /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", num_bytes) : fmt::format("{:.1f} {}", amount, kUnits[unit]);
}

std::string to_cell(const Value& value) {
  switch (value.kind) {
    case Value::Kind::kUnknown: return "-";
    case Value::Kind::kTruth: return value.truth ? "yes" : "no";
    case Value::Kind::kInteger: return with_commas(value.integer);
    case Value::Kind::kReal:
      return value.real >= 0.1 || value.real == 0 ? fmt::format("{:.2f}", value.real) : fmt::format("{:.2g}", value.real);
    case Value::Kind::kText: return value.text;
  }
  return {};
}

}  // namespace tokenyard::cli
