#include "cli/trace_events.hpp"

#include <gtest/gtest.h>

#include "tests/base/expect_error.hpp"
#include "tests/cli/trace_text.hpp"

namespace tokenyard::cli {
namespace {

using test::expect_error;

TEST(trace_events, spans_and_ranks_are_read) {
  const TraceEvents events = parse_trace(TraceText{.rank = 1, .waited_us = 40}.text(), "t.json");
  ASSERT_EQ(events.ranks.size(), 1);
  EXPECT_EQ(events.ranks[0].rank, 1);
  EXPECT_EQ(events.ranks[0].num_ranks, 2);
  EXPECT_EQ(events.ranks[0].host, "alpha");
  ASSERT_EQ(events.spans.size(), 30);
  EXPECT_EQ(events.spans[0].kind, TracedSpan::Kind::kWait);
  EXPECT_EQ(events.spans[0].name, "dispatch/counts");
  EXPECT_EQ(events.spans[0].peer, 0);
  EXPECT_EQ(events.spans[0].begin_ns, 1'000'000'000);
  EXPECT_EQ(events.spans[0].end_ns, 1'000'040'000);
  EXPECT_EQ(events.spans[1].sent[1].num_bytes, 500);
  EXPECT_EQ(events.spans[5].turn, 1);
  EXPECT_EQ(events.spans[5].slot, 1);
  EXPECT_FALSE(events.is_cut_short);
}

TEST(trace_events, a_cut_file_gives_what_is_whole_wherever_it_was_cut) {
  const std::string text = TraceText{.waited_us = 40}.text();
  const std::size_t first_event = text.find("wait for rank");
  std::size_t last = 0;
  for (std::size_t length = first_event; length < text.size() - 2; ++length) {
    const TraceEvents events = parse_trace(text.substr(0, length), "t.json");
    EXPECT_TRUE(events.is_cut_short);
    EXPECT_GE(events.spans.size(), last);
    last = events.spans.size();
  }
  EXPECT_EQ(last, 30);
  expect_error([&] { parse_trace(text.substr(0, 60), "t.json"); }, ErrorCode::kInvalidArgument, "ends before the first");
}

TEST(trace_events, the_object_form_and_events_of_others_are_taken) {
  std::string text = TraceText{}.text();
  text.insert(text.find('\n'), R"({"name":"gpu } \" ]","cat":"kernel","ph":"X","ts":1,"dur":2,"pid":9,"tid":9,"args":{}},)");
  const TraceEvents events = parse_trace(R"({"displayTimeUnit":"ns","traceEvents":)" + text + "}", "t.json");
  EXPECT_EQ(events.spans.size(), 20);
}

TEST(trace_events, what_was_dropped_is_known) {
  std::string text = TraceText{}.text();
  text.insert(text.rfind("\n]"), R"(,{"name":"dropped events","ph":"C","ts":5.0,"pid":0,"tid":0,"args":{"dropped":17}})");
  EXPECT_EQ(parse_trace(text, "t.json").num_dropped, 17);
}

TEST(trace_events, what_is_no_trace_is_refused_with_its_name) {
  const auto refused = [](const std::string& text, const char* why) {
    expect_error([&] { parse_trace(text, "some.json"); }, ErrorCode::kInvalidArgument, why);
    expect_error([&] { parse_trace(text, "some.json"); }, ErrorCode::kInvalidArgument, "some.json");
  };
  refused("", "is no trace");
  refused("hello", "is no trace");
  refused("{\"results\": []}", "is no trace");
  refused("[]", "is no trace of Tokenyard");
  refused(R"([{"name":"a","ph":"X","ts":1,"dur":1,"pid":1,"tid":1}])", "is no trace of Tokenyard");
  refused(R"([{"name":"a" "ph"}])", "cannot be read");
  refused(R"([{"name":"tokenyard_rank","ph":"M","pid":0,"args":{"group":"1"}}])", "cannot be read");
  std::string text = TraceText{.rank = 1}.text();
  text.replace(text.find("\"rank\":1"), 8, "\"rank\":9");
  refused(text, "rank 9 of 2");
}

}  // namespace
}  // namespace tokenyard::cli
