#include "cli/json.hpp"

#include <gtest/gtest.h>

#include <limits>

#include "tests/base/expect_error.hpp"

namespace tokenyard::cli {
namespace {

TEST(json, fields_keep_their_order_and_lists_come_last) {
  const Record header{{"b", 1}, {"a", "x\"y"}, {"c", true}};
  EXPECT_EQ(to_json(header, "results", {{{"p50_us", 1.5}, {"wrong_rows", Value()}}}),
            "{\n  \"b\": 1,\n  \"a\": \"x\\\"y\",\n  \"c\": true,\n  \"results\": [\n    {\n      \"p50_us\": 1.5,\n"
            "      \"wrong_rows\": null\n    }\n  ]\n}\n");
}

TEST(json, what_json_cannot_say_is_null_or_replaced) {
  const std::string text = to_json({{"rate", std::numeric_limits<double>::infinity()}, {"path", "\xff.npy"}}, "list", {});
  EXPECT_NE(text.find("\"rate\": null"), std::string::npos);
  EXPECT_NE(text.find(".npy"), std::string::npos);
}

TEST(json, flat_objects_come_back) {
  const Record record =
      parse_flat_json(R"({"operation": "mpi", "p50_us": 2.5, "wire_bytes": 12, "wrong_rows": null, "ok": true})");
  EXPECT_EQ(find(record, "operation"), Value("mpi"));
  EXPECT_EQ(find(record, "p50_us"), Value(2.5));
  EXPECT_EQ(find(record, "wire_bytes"), Value(12));
  EXPECT_EQ(find(record, "wrong_rows"), Value());
  EXPECT_EQ(find(record, "ok"), Value(true));
  EXPECT_EQ(find(record, "absent"), Value());
}

TEST(json, anything_else_is_rejected) {
  test::expect_error([] { parse_flat_json("no json"); }, ErrorCode::kInvalidArgument, "got \"no json\"");
  test::expect_error([] { parse_flat_json("[1]"); }, ErrorCode::kInvalidArgument, "expected a JSON object");
  test::expect_error([] { parse_flat_json(R"({"list": [1]})"); }, ErrorCode::kInvalidArgument, "\"list\"");
}

}  // namespace
}  // namespace tokenyard::cli
