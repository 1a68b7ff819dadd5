// The reference itself, on examples that were worked out by hand, and its independence from the library.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>

#include "tests/reference/combine.hpp"
#include "tests/reference/float8.hpp"
#include "tests/reference/numbers.hpp"
#include "tests/reference/routing.hpp"

namespace reference {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Ids = std::vector<std::int64_t>;

std::uint16_t code_of(Number number, double value) {
  std::uint16_t code = 0;
  write(number, value, reinterpret_cast<std::byte*>(&code));
  return code;
}

double value_of(Number number, std::uint16_t code) { return read(number, reinterpret_cast<const std::byte*>(&code)); }

// [source, token] pairs of the received rows.
std::vector<std::pair<int, std::int64_t>> origins(const Arrived& arrived) {
  std::vector<std::pair<int, std::int64_t>> pairs;
  for (const ReceivedRow& row : arrived.rows) pairs.emplace_back(row.source, row.token);
  return pairs;
}

TEST(ReferenceNumbers, bfloat16_rounds_to_the_nearest_even) {
  const auto code = [](double value) { return code_of(Number::kBFloat16, value); };
  EXPECT_EQ(code(1.0), 0x3f80);
  EXPECT_EQ(code(1.0 + std::ldexp(1.0, -8)), 0x3f80);                         // half a step: to even, downwards
  EXPECT_EQ(code(1.0 + std::ldexp(3.0, -8)), 0x3f82);                         // half a step: to even, upwards
  EXPECT_EQ(code(1.0 + std::ldexp(1.0, -8) + std::ldexp(1.0, -20)), 0x3f81);  // a little more than half
  EXPECT_EQ(code(-1.0 - std::ldexp(1.0, -8) - std::ldexp(1.0, -20)), 0xbf81);
  EXPECT_EQ(code(std::ldexp(1.0, -133)), 0x0001);  // the smallest
  EXPECT_EQ(code(std::ldexp(1.0, -134)), 0x0000);  // half of it
  EXPECT_EQ(code(std::ldexp(3.0, -135)), 0x0001);  // three quarters of it
  EXPECT_EQ(code(-0.0), 0x8000);
  EXPECT_EQ(code(std::numeric_limits<float>::max()), 0x7f80);  // beyond the middle to what would follow the largest
  EXPECT_EQ(code(-std::numeric_limits<double>::infinity()), 0xff80);
  EXPECT_EQ(code(-std::numeric_limits<double>::quiet_NaN()), 0x7fff);
}

TEST(ReferenceNumbers, float16_rounds_to_the_nearest_even) {
  const auto code = [](double value) { return code_of(Number::kFloat16, value); };
  EXPECT_EQ(code(1.0), 0x3c00);
  EXPECT_EQ(code(1.0 + std::ldexp(1.0, -11)), 0x3c00);
  EXPECT_EQ(code(1.0 + std::ldexp(3.0, -11)), 0x3c02);
  EXPECT_EQ(code(65504.0), 0x7bff);
  EXPECT_EQ(code(65519.0), 0x7bff);
  EXPECT_EQ(code(65520.0), 0x7c00);
  EXPECT_EQ(code(-1e9), 0xfc00);
  EXPECT_EQ(code(std::ldexp(1.0, -24)), 0x0001);
  EXPECT_EQ(code(std::ldexp(1.0, -25)), 0x0000);
  EXPECT_EQ(code(std::ldexp(1023.0, -24)), 0x03ff);
  EXPECT_EQ(code(std::ldexp(2047.0, -25)), 0x0400);  // between the largest denormal and the smallest normal number
  EXPECT_EQ(code(std::numeric_limits<double>::quiet_NaN()), 0x7fff);
}

TEST(ReferenceNumbers, every_code_is_read_and_written_as_itself) {
  for (const auto& [number, infinity] : {std::pair{Number::kFloat16, 0x7c00}, std::pair{Number::kBFloat16, 0x7f80}}) {
    for (std::uint32_t code = 0; code < 0x10000; ++code) {
      const bool is_nan = static_cast<int>(code & 0x7fff) > infinity;
      const auto expected = static_cast<std::uint16_t>(is_nan ? 0x7fff : code);
      EXPECT_EQ(code_of(number, value_of(number, static_cast<std::uint16_t>(code))), expected);
    }
  }
}

TEST(ReferenceNumbers, the_wider_types_keep_their_bits_and_have_one_nan) {
  const float denormal = std::bit_cast<float>(0x80000003U);
  std::uint32_t float_code = 0;
  write(Number::kFloat32, static_cast<double>(denormal), reinterpret_cast<std::byte*>(&float_code));
  EXPECT_EQ(float_code, 0x80000003U);
  write(Number::kFloat32, -std::nan(""), reinterpret_cast<std::byte*>(&float_code));
  EXPECT_EQ(float_code, 0x7fffffffU);
  std::uint64_t double_code = 0;
  write(Number::kFloat64, -std::nan(""), reinterpret_cast<std::byte*>(&double_code));
  EXPECT_EQ(double_code, 0x7fffffffffffffffU);
}

TEST(ReferenceFloat8, rounds_to_the_nearest_even_and_saturates) {
  EXPECT_EQ(nearest_float8(1.0F), 0x38);
  EXPECT_EQ(nearest_float8(1.0625F), 0x38);  // half a step: to even, downwards
  EXPECT_EQ(nearest_float8(1.1875F), 0x3a);  // half a step: to even, upwards
  EXPECT_EQ(nearest_float8(1.07F), 0x39);
  EXPECT_EQ(nearest_float8(448.0F), 0x7e);
  EXPECT_EQ(nearest_float8(-1e9F), 0xfe);
  EXPECT_EQ(nearest_float8(std::numeric_limits<float>::infinity()), 0x7e);
  EXPECT_EQ(nearest_float8(-std::numeric_limits<float>::quiet_NaN()), 0x7f);
  EXPECT_EQ(nearest_float8(-0.0F), 0x80);
  EXPECT_EQ(nearest_float8(std::ldexp(1.0F, -9)), 0x01);   // the smallest
  EXPECT_EQ(nearest_float8(std::ldexp(1.0F, -10)), 0x00);  // half of it
  EXPECT_EQ(nearest_float8(std::ldexp(1.0F, -6)), 0x08);   // the smallest with a leading one
  for (int code = 0; code < 256; ++code) {
    const bool is_nan = code % 128 == 127;
    EXPECT_EQ(nearest_float8(value_of_float8(static_cast<std::uint8_t>(code))), is_nan ? 0x7f : code);
  }
}

TEST(ReferenceFloat8, every_block_has_a_scale_of_its_own) {
  std::vector<float> values(130, 0.0F);
  values[0] = 896.0F;
  values[1] = std::numeric_limits<float>::infinity();
  values[2] = std::nanf("");
  values[129] = -3.0F * 448.0F;
  std::vector<std::byte> codes(130);
  float scales[2] = {};
  quantize_row(values, Scale::kFloat, codes.data(), reinterpret_cast<std::byte*>(scales));
  EXPECT_THAT(scales, ElementsAre(2.0F, 3.0F));
  EXPECT_EQ(codes[0], std::byte{0x7e});
  EXPECT_EQ(codes[1], std::byte{0x7e});
  EXPECT_EQ(codes[2], std::byte{0x7f});
  EXPECT_EQ(codes[129], std::byte{0xfe});
  quantize_row(values, Scale::kFloatPowerOfTwo, codes.data(), reinterpret_cast<std::byte*>(scales));
  EXPECT_THAT(scales, ElementsAre(2.0F, 4.0F));
  std::byte exponents[2] = {};
  quantize_row(values, Scale::kExponent, codes.data(), exponents);
  EXPECT_THAT(exponents, ElementsAre(std::byte{128}, std::byte{129}));
  EXPECT_EQ(codes[129], std::byte{0xfa});  // -336 is halfway between -320 and -352
  quantize_row({0.0F}, Scale::kFloat, codes.data(), reinterpret_cast<std::byte*>(scales));
  EXPECT_EQ(scales[0], 1e-4F / 448.0F);
}

// Ranks 0 and 1 hold the experts 0, 1 and 2, 3.
World two_ranks(Arrangement arrangement) {
  World world;
  world.num_ranks = 2;
  world.num_experts = 4;
  world.top_k = 2;
  world.arrangement = arrangement;
  return world;
}

const std::vector<Sent> kTwoSenders{{3, Ids{0, 1, 2, 0, -1, 3}, {.5F, .25F, 1, 2, 3, 4}}, {2, Ids{3, 3, 1, -1}, {5, 6, 7, 8}}};

TEST(ReferenceRouting, compact_rows_stand_by_source_and_token_once_per_rank) {
  const Routed routed = route(two_ranks(Arrangement::kCompact), kTwoSenders);
  EXPECT_THAT(origins(routed.at[0]), ElementsAre(std::pair(0, 0), std::pair(0, 1), std::pair(1, 1)));
  EXPECT_THAT(origins(routed.at[1]), ElementsAre(std::pair(0, 1), std::pair(0, 2), std::pair(1, 0)));
  EXPECT_THAT(routed.at[0].source_offsets, ElementsAre(0, 2, 3));
  EXPECT_THAT(routed.at[1].source_offsets, ElementsAre(0, 2, 3));
  EXPECT_THAT(routed.at[0].local_expert, ElementsAre(0, 1, -1, 0, 1, -1));
  EXPECT_THAT(routed.at[1].local_expert, ElementsAre(0, -1, -1, 1, 1, 1));
  EXPECT_THAT(routed.at[0].weights, ElementsAre(.5F, .25F, 1, 2, 7, 8));
  EXPECT_THAT(routed.at[0].expert_counts, ElementsAre(2, 2));
  EXPECT_THAT(routed.at[1].expert_counts, ElementsAre(1, 3));
  EXPECT_THAT(routed.at[0].expert_dropped, ElementsAre(0, 0));
}

TEST(ReferenceRouting, contiguous_groups_are_aligned) {
  World world = two_ranks(Arrangement::kContiguous);
  world.alignment = 4;
  const Arrived arrived = route(world, kTwoSenders).at[1];
  EXPECT_THAT(arrived.expert_offsets, ElementsAre(0, 4, 8));
  EXPECT_THAT(arrived.place, ElementsAre(0, -1, -1, 4, 5, 6));
  EXPECT_THAT(arrived.copied_row, ElementsAre(0, -1, -1, -1, 1, 2, 2, -1));
  EXPECT_THAT(arrived.place_weights, ElementsAre(1, 0, 0, 0, 4, 5, 6, 0));
  EXPECT_THAT(arrived.place_tokens, ElementsAre(1, -1, -1, -1, 2, 0, 0, -1));
  EXPECT_THAT(arrived.sources_of_experts, ElementsAre(0, 1, 1, 0, 1, 3));
}

TEST(ReferenceRouting, padded_experts_drop_what_exceeds_their_capacity) {
  World world = two_ranks(Arrangement::kPadded);
  world.expert_capacity = 2;
  const Arrived arrived = route(world, kTwoSenders).at[1];
  EXPECT_THAT(arrived.expert_offsets, ElementsAre(0, 2, 4));
  EXPECT_THAT(arrived.place, ElementsAre(0, -1, -1, 2, 3, -1));
  EXPECT_THAT(arrived.expert_counts, ElementsAre(1, 2));
  EXPECT_THAT(arrived.expert_dropped, ElementsAre(0, 1));
}

TEST(ReferenceRouting, ranks_drop_their_last_rows) {
  World world = two_ranks(Arrangement::kCompact);
  world.recv_capacity = 2;
  const Routed routed = route(world, kTwoSenders);
  EXPECT_THAT(origins(routed.at[1]), ElementsAre(std::pair(0, 1), std::pair(0, 2)));
  EXPECT_THAT(routed.at[1].source_offsets, ElementsAre(0, 2, 2));
  EXPECT_THAT(routed.at[1].expert_dropped, ElementsAre(0, 2));
  EXPECT_EQ(routed.visits[1][0].at(0).row, -1);
}

TEST(ReferenceRouting, replicas_serve_their_own_rank_and_take_turns_for_others) {
  World world;
  world.num_ranks = 3;
  world.num_experts = 2;
  world.experts_of = {{0}, {1, 0, 0}, {1}};
  // Expert 0 stands on rank 0 and twice on rank 1. Rank 2 has none of them: its token t goes to copy (2 + t) % 3.
  const std::vector<Sent> sent{{1, Ids{0}, {}}, {1, Ids{0}, {}}, {3, Ids{0, 0, 0}, {}}};
  const Routed routed = route(world, sent);
  EXPECT_THAT(origins(routed.at[0]), ElementsAre(std::pair(0, 0), std::pair(2, 1)));
  EXPECT_THAT(origins(routed.at[1]), ElementsAre(std::pair(1, 0), std::pair(2, 0), std::pair(2, 2)));
  EXPECT_THAT(routed.at[1].local_expert, ElementsAre(1, 2, 1));
  EXPECT_THAT(origins(routed.at[2]), IsEmpty());
}

// Rows of one bfloat16: what rank r computed for row i stands in values[r][i].
ExpertOutputs outputs_of(const std::vector<std::vector<float>>& values) {
  ExpertOutputs outputs;
  outputs.number = Number::kBFloat16;
  outputs.num_elements = 1;
  outputs.has_factors.assign(values.size(), false);
  outputs.read_row = [values](int rank, std::int64_t row, std::byte* element) {
    write(Number::kBFloat16, static_cast<double>(values[rank].at(row)), element);
  };
  return outputs;
}

TEST(ReferenceCombine, sums_ranks_and_rounds_at_the_end) {
  const World world = two_ranks(Arrangement::kCompact);
  const Routed routed = route(world, kTwoSenders);
  // Token 1 of rank 0 stands in row 1 of rank 0 and in row 0 of rank 1. 256 + 1 needs one bit more than the type has; the bias
  // of 1 makes up for it.
  const ExpertOutputs outputs = outputs_of({{0, 256, 0}, {1, 0, 0}});
  std::uint16_t one = code_of(Number::kBFloat16, 1.0);
  std::uint16_t sum = 0;
  combine_token(world, routed, 0, 1, outputs, {}, reinterpret_cast<std::byte*>(&sum));
  EXPECT_EQ(value_of(Number::kBFloat16, sum), 256.0);
  combine_token(world, routed, 0, 1, outputs, {reinterpret_cast<std::byte*>(&one)}, reinterpret_cast<std::byte*>(&sum));
  EXPECT_EQ(value_of(Number::kBFloat16, sum), 258.0);
}

TEST(ReferenceCombine, expert_rows_are_scaled_and_rounded_on_their_rank) {
  const World world = two_ranks(Arrangement::kContiguous);
  const Routed routed = route(world, kTwoSenders);
  // Token 0 of rank 0 has the rows 0 (expert 0) and 2 (expert 1) of rank 0.
  ExpertOutputs outputs = outputs_of({{128, 0, 1, 0}, {0, 0, 0, 0}});
  outputs.has_factors = {true, false};
  outputs.factor = [](int, std::int64_t row) { return row == 0 ? 2.0F : 1.0F; };
  std::uint16_t one = code_of(Number::kBFloat16, 1.0);
  std::uint16_t sum = 0;
  combine_token(world, routed, 0, 0, outputs, {reinterpret_cast<std::byte*>(&one)}, reinterpret_cast<std::byte*>(&sum));
  EXPECT_EQ(value_of(Number::kBFloat16, sum), 256.0);  // 2 * 128 + 1 was rounded before the bias came
}

TEST(ReferenceCombine, contributions_may_come_home_through_float8) {
  const World world = two_ranks(Arrangement::kCompact);
  const Routed routed = route(world, kTwoSenders);
  ExpertOutputs outputs = outputs_of({{0, 3, 0}, {5, 0, 0}});
  outputs.return_as_float8 = true;
  std::uint16_t sum = 0;
  combine_token(world, routed, 0, 1, outputs, {}, reinterpret_cast<std::byte*>(&sum));
  // A row of one value is its own largest, and survives but for two roundings of its scale.
  EXPECT_EQ(value_of(Number::kBFloat16, sum), 8.0);
}

TEST(ReferenceCombine, weights_return_to_the_ids_that_were_served) {
  World world = two_ranks(Arrangement::kPadded);
  world.expert_capacity = 2;
  const Routed routed = route(world, kTwoSenders);
  const auto carried = [](int rank, std::int64_t place) { return static_cast<float>(100 * rank + place); };
  EXPECT_THAT(return_weights(world, routed, 0, 1, carried), ElementsAre(100, 1));
  EXPECT_THAT(return_weights(world, routed, 0, 2, carried), ElementsAre(0, 102));
  EXPECT_THAT(return_weights(world, routed, 1, 0, carried), ElementsAre(103, 0));  // the second was dropped
}

// Otherwise it could repeat the library's mistakes.
TEST(Reference, includes_nothing_of_the_library) {
  int num_includes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(TOKENYARD_REFERENCE_FOLDER)) {
    const bool is_source = entry.path().extension() == ".hpp" || entry.path().extension() == ".cpp";
    if (!is_source || entry.path().filename() == "reference_test.cpp") continue;
    std::ifstream file(entry.path());
    for (std::string line; std::getline(file, line);) {
      const std::size_t start = line.find_first_not_of(" \t");
      if (start == std::string::npos || line[start] != '#' || line.find("include") == std::string::npos) continue;
      ++num_includes;
      const std::size_t name = line.find_first_of("<\"");
      ASSERT_NE(name, std::string::npos) << entry.path() << ": " << line;
      // Headers of the standard library are the only ones without a folder or an ending.
      const bool is_standard = line[name] == '<' && line.find_first_of("./", name) == std::string::npos;
      EXPECT_TRUE(is_standard || line.starts_with("#include \"tests/reference/")) << entry.path() << ": " << line;
    }
  }
  EXPECT_GT(num_includes, 5);
}

}  // namespace
}  // namespace reference
