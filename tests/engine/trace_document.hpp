// A trace file as the viewers read it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace tokenyard::test {

using Json = nlohmann::json;

// No array where it cannot be read.
inline Json try_read_trace(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return Json::parse(text.str(), nullptr, false);
}

inline Json read_trace(const std::string& path) {
  Json document = try_read_trace(path);
  EXPECT_TRUE(document.is_array()) << path << " is no JSON array";
  return document;
}

// The events of one category, of one rank (-1: of all).
inline std::vector<Json> events_of(const Json& document, const std::string& category, int pid = -1) {
  std::vector<Json> events;
  if (!document.is_array()) return events;
  for (const Json& event : document) {
    if (event.value("cat", "") == category && (pid < 0 || event.at("pid") == pid)) events.push_back(event);
  }
  return events;
}

inline int count_named(const std::vector<Json>& events, const std::string& name) {
  int num = 0;
  for (const Json& event : events) num += event.at("name") == name ? 1 : 0;
  return num;
}

// Spans of one thread of one rank lie inside of each other or apart, to the nanosecond.
inline void expect_nesting(const Json& document) {
  std::map<std::pair<int, int>, std::vector<std::pair<std::int64_t, std::int64_t>>> threads;
  if (!document.is_array()) return;
  for (const Json& event : document) {
    if (event.value("ph", "") != "X") continue;
    const auto begin = static_cast<std::int64_t>(std::llround(event.at("ts").get<double>() * 1000));
    const auto duration = static_cast<std::int64_t>(std::llround(event.at("dur").get<double>() * 1000));
    EXPECT_GE(duration, 0);
    threads[{event.at("pid").get<int>(), event.at("tid").get<int>()}].emplace_back(begin, begin + duration);
  }
  for (auto& [thread, spans] : threads) {
    // Of spans that begin together the longer one is outside.
    std::sort(spans.begin(), spans.end(),
              [](const auto& a, const auto& b) { return a.first != b.first ? a.first < b.first : a.second > b.second; });
    std::vector<std::int64_t> open;
    for (const auto& [begin, end] : spans) {
      // Doubles of microseconds since the start of the host are good for some nanoseconds.
      constexpr std::int64_t kSlack = 16;
      while (!open.empty() && open.back() <= begin + kSlack) open.pop_back();
      EXPECT_TRUE(open.empty() || end <= open.back() + kSlack) << "a span of rank " << thread.first << " crosses another's end";
      open.push_back(end);
    }
  }
}

}  // namespace tokenyard::test
