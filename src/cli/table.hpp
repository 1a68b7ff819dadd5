// Text in columns, for people.
#pragma once

#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "cli/record.hpp"

namespace tokenyard::cli {

// The first columns are aligned to the left, all others to the right.
class Table {
 public:
  explicit Table(std::vector<std::string> heading, std::size_t num_left_columns = 1)
      : rows_{std::move(heading)}, num_left_columns_(num_left_columns) {}

  // Missing cells at the end stay empty.
  void add_row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  // A line of dashes, to set totals apart.
  void add_rule() { rows_.emplace_back(); }

  // Every line begins with `indent` spaces and ends with a line feed.
  std::string to_string(std::size_t indent = 2) const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the heading first; an empty row is a rule
  std::size_t num_left_columns_;
};

// 1234567 as "1,234,567".
std::string with_commas(std::int64_t number);

// Bytes in the largest binary unit that leaves at least 1: "14.0 KiB".
std::string human_bytes(std::int64_t num_bytes);

// A record's value as a cell: integers with commas, other numbers with two decimals (small ones with more), "-" for what is not
// known.
std::string to_cell(const Value& value);

}  // namespace tokenyard::cli
