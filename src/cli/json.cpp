#include "cli/json.hpp"

#include <cmath>
#include <nlohmann/json.hpp>

#include "base/fail.hpp"

namespace tokenyard::cli {
namespace {

using Json = nlohmann::ordered_json;

Json to_value(const Value& value) {
  switch (value.kind) {
    case Value::Kind::kUnknown: return nullptr;
    case Value::Kind::kTruth: return value.truth;
    case Value::Kind::kInteger: return value.integer;
    case Value::Kind::kReal: return std::isfinite(value.real) ? Json(value.real) : Json(nullptr);
    case Value::Kind::kText: return value.text;
  }
  return nullptr;
}

Json to_object(const Record& record) {
  Json object = Json::object();
  for (const auto& [name, value] : record) object[name] = to_value(value);
  return object;
}

Record to_record(const Json& object) {
  Record record;
  for (const auto& [name, value] : object.items()) {
    switch (value.type()) {
      case Json::value_t::null: record.emplace_back(name, Value()); break;
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

}  // namespace

std::string to_json(const Record& header, const std::string& list_name, const std::vector<Record>& list) {
  return to_json(header, {{list_name, list}});
}

std::string to_json(const Record& header, const std::vector<std::pair<std::string, std::vector<Record>>>& lists) {
  Json document = to_object(header);
  for (const auto& [name, list] : lists) {
    Json& objects = document[name] = Json::array();
    for (const Record& record : list) objects.push_back(to_object(record));
  }
  // Text from outside (a file's path, a processor's name) may hold bytes that are not UTF-8.
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::vector<Record> parse_json_list(std::string_view text, const std::string& list_name) {
  const Json document = Json::parse(text, nullptr, false);
  if (!document.is_object() || !document.contains(list_name) || !document[list_name].is_array()) {
    fail_argument("expected a JSON object with a list \"{}\", got \"{}\"", list_name, text.substr(0, 200));
  }
  std::vector<Record> records;
  for (const Json& object : document[list_name]) records.push_back(to_record(object));
  return records;
}

Record parse_flat_json(std::string_view text) {
  const Json document = Json::parse(text, nullptr, false);
  if (!document.is_object()) fail_argument("expected a JSON object, got \"{}\"", text.substr(0, 200));
  return to_record(document);
}

}  // namespace tokenyard::cli
