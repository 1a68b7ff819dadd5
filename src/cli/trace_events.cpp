#include "cli/trace_events.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/fail.hpp"

namespace tokenyard::cli {
namespace {

using Json = nlohmann::json;

// Hands out the objects of an array one by one, so that a file without an end gives what it holds.
class ObjectsOfArray {
 public:
  explicit ObjectsOfArray(std::string_view text) : text_(text) {
    skip_space();
    if (position_ < text_.size() && text_[position_] == '{') {
      // The other form of the format: an object that holds the array.
      const std::size_t name = text_.find("\"traceEvents\"");
      position_ = name == std::string_view::npos ? text_.size() : text_.find('[', name);
    }
    is_array_ = position_ < text_.size() && text_[position_] == '[';
    if (is_array_) ++position_;
  }

  bool is_array() const { return is_array_; }
  bool is_cut_short() const { return is_cut_short_; }

  // Empty at the end.
  std::string_view next() {
    skip_space();
    while (position_ < text_.size() && text_[position_] == ',') {
      ++position_;
      skip_space();
    }
    if (position_ < text_.size() && text_[position_] == ']') return {};
    const std::size_t begin = position_;
    if (begin < text_.size() && text_[begin] == '{') {
      int depth = 0;
      bool in_string = false;
      for (; position_ < text_.size(); ++position_) {
        const char letter = text_[position_];
        if (in_string) {
          if (letter == '\\') ++position_;
          if (letter == '"') in_string = false;
          continue;
        }
        if (letter == '"') in_string = true;
        if (letter == '{') ++depth;
        if (letter == '}' && --depth == 0) return text_.substr(begin, ++position_ - begin);
      }
    }
    is_cut_short_ = true;
    return {};
  }

 private:
  void skip_space() {
    while (position_ < text_.size() && (text_[position_] == ' ' || (text_[position_] >= '\t' && text_[position_] <= '\r'))) {
      ++position_;
    }
  }

  std::string_view text_;
  std::size_t position_ = 0;
  bool is_array_ = false;
  bool is_cut_short_ = false;
};

std::int64_t nanoseconds(const Json& microseconds) { return std::llround(microseconds.get<double>() * 1000); }

TracedRank rank_of(const Json& event) {
  const Json& args = event.at("args");
  return {.pid = event.at("pid").get<int>(),
          .group = args.at("group").get<std::string>(),
          .rank = args.at("rank").get<int>(),
          .num_ranks = args.at("num_ranks").get<int>(),
          .host = args.at("host").get<std::string>(),
          .process = args.at("process").get<std::int64_t>(),
          .clock = args.at("clock").get<std::string>(),
          .realtime_offset_ns = args.at("realtime_offset_ns").get<std::int64_t>()};
}

void add_span(const Json& event, TraceEvents* events) {
  const std::string category = event.value("cat", "");
  TracedSpan span;
  if (category == "step") {
    span.kind = TracedSpan::Kind::kStep;
  } else if (category == "wait") {
    span.kind = TracedSpan::Kind::kWait;
  } else if (category != "call") {
    return;  // what others have added to the file
  }
  const Json& args = event.at("args");
  span.name = span.kind == TracedSpan::Kind::kWait ? args.at("phase").get<std::string>() : event.at("name").get<std::string>();
  span.begin_ns = nanoseconds(event.at("ts"));
  span.end_ns = span.begin_ns + nanoseconds(event.at("dur"));
  span.pid = event.at("pid").get<int>();
  span.thread = event.at("tid").get<int>();
  span.peer = args.value("peer", -1);
  span.plan = args.value("plan", -1);
  span.slot = args.value("slot", -1);
  span.generation = args.value("generation", 0);
  span.turn = args.value("turn", std::int64_t{0});
  if (const auto sent = args.find("to"); sent != args.end()) {
    for (const Json& part : *sent) {
      span.sent.push_back({part.at(0).get<int>(), part.at(1).get<std::int64_t>(), part.at(2).get<std::int64_t>()});
    }
  }
  events->spans.push_back(std::move(span));
}

void check_rank(const TracedRank& rank, const std::string& path) {
  constexpr int kMostRanks = 65'536;
  if (rank.num_ranks >= 1 && rank.num_ranks <= kMostRanks && rank.rank >= 0 && rank.rank < rank.num_ranks) return;
  fail_argument("{} speaks of rank {} of {}: it is damaged, or no trace of Tokenyard", path, rank.rank, rank.num_ranks);
}

}  // namespace

TraceEvents parse_trace(std::string_view text, const std::string& path) {
  TraceEvents events;
  ObjectsOfArray objects(text);
  if (!objects.is_array()) {
    fail_argument("{} is no trace: it does not begin with a JSON array of events. Traces are what TOKENYARD_TRACE=FILE writes",
                  path);
  }
  for (std::string_view object = objects.next(); !object.empty(); object = objects.next()) {
    try {
      const Json event = Json::parse(object);
      const std::string name = event.value("name", "");
      const std::string type = event.value("ph", "");
      if (type == "M" && name == "tokenyard_rank") {
        events.ranks.push_back(rank_of(event));
        check_rank(events.ranks.back(), path);
      } else if (type == "C" && name == "dropped events") {
        events.num_dropped = std::max(events.num_dropped, event.at("args").at("dropped").get<std::int64_t>());
      } else if (type == "X") {
        add_span(event, &events);
      }
    } catch (const Json::exception& error) {
      fail_argument("{} holds an event that cannot be read, \"{}\": {}", path, object.substr(0, 200), error.what());
    }
  }
  events.is_cut_short = objects.is_cut_short();
  if (events.ranks.empty()) {
    fail_argument("{} is no trace of Tokenyard{}: no event in it says which rank it is about", path,
                  events.is_cut_short ? ", or ends before the first" : "");
  }
  return events;
}

}  // namespace tokenyard::cli
