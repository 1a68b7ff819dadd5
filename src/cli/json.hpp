// Records as JSON. The only place that knows a JSON library.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/record.hpp"

namespace tokenyard::cli {

// An object with the header's fields, in their order, and after them a list of objects under `list_name`. Indented; ends with a
// line feed. Numbers that are not finite become null.
std::string to_json(const Record& header, const std::string& list_name, const std::vector<Record>& list);

// The same with several lists, each under its name.
std::string to_json(const Record& header, const std::vector<std::pair<std::string, std::vector<Record>>>& lists);

// The list of objects with plain values that an object has under `list_name`. Throws Error(kInvalidArgument) for anything else.
std::vector<Record> parse_json_list(std::string_view text, const std::string& list_name);

// The fields of an object whose values are all plain. Throws Error(kInvalidArgument) for anything else.
Record parse_flat_json(std::string_view text);

}  // namespace tokenyard::cli
