#include "cli/placement_file.hpp"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "base/fail.hpp"
#include "cli/text.hpp"

namespace tokenyard::cli {

PlacementTable parse_placement(const std::string& text, const std::string& name) {
  PlacementTable placement;
  std::istringstream lines(text);
  int line_number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++line_number;
    if (line.starts_with('#')) continue;
    std::replace(line.begin(), line.end(), ',', ' ');
    std::istringstream words(line);
    std::vector<std::int32_t>& experts = placement.experts_of.emplace_back();
    for (std::string word; words >> word;) {
      std::int32_t expert = 0;
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), expert);
      if (error != std::errc{} || end != word.data() + word.size()) {
        fail_argument("{} line {}: \"{}\" is no expert id; expected whole numbers separated by spaces or commas", name,
                      line_number, word);
      }
      experts.push_back(expert);
    }
  }
  return placement;
}

PlacementTable read_placement(const std::string& path) { return parse_placement(read_text_file(path), "\"" + path + "\""); }

}  // namespace tokenyard::cli
