#include "cli/json.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/fail.hpp"

namespace tokenyard::cli {
namespace {

using Json = nlohmann::ordered_json;

Json to_value(const Value& value) {
  struct Convert {
    Json operator()(std::monostate) const { return nullptr; }
    Json operator()(bool truth) const { return truth; }
    Json operator()(std::int64_t number) const { return number; }
    Json operator()(double number) const { return std::isfinite(number) ? Json(number) : Json(nullptr); }
    Json operator()(const std::string& text) const { return text; }
  };
  return std::visit(Convert{}, value);
}

Json to_object(const Record& record) {
  Json object = Json::object();
  for (const auto& [name, value] : record) object[name] = to_value(value);
  return object;
}

}  // namespace

std::string to_json(const Record& header, const std::string& list_name, const std::vector<Record>& list) {
  Json document = to_object(header);
  Json& objects = document[list_name] = Json::array();
  for (const Record& record : list) objects.push_back(to_object(record));
  // Text from outside (a file's path, a processor's name) may hold bytes that are not UTF-8.
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

Record parse_flat_json(std::string_view text) {
  const Json document = Json::parse(text, nullptr, false);
  if (!document.is_object()) fail_argument("expected a JSON object, got \"{}\"", text.substr(0, 200));
  Record record;
  for (const auto& [name, value] : document.items()) {
    switch (value.type()) {
      case Json::value_t::null: record.emplace_back(name, std::monostate{}); break;
      case Json::value_t::boolean: record.emplace_back(name, value.get<bool>()); break;
      case Json::value_t::number_integer:
      case Json::value_t::number_unsigned: record.emplace_back(name, value.get<std::int64_t>()); break;
      case Json::value_t::number_float: record.emplace_back(name, value.get<double>()); break;
      case Json::value_t::string: record.emplace_back(name, value.get<std::string>()); break;
      default: fail_argument("the JSON value of \"{}\" is neither a number nor a text", name);
    }
  }
  return record;
}

}  // namespace tokenyard::cli
