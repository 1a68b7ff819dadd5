#include "cli/shape_options.hpp"

#include <gtest/gtest.h>

#include "cli/usage_error.hpp"

namespace tokenyard::cli {
namespace {

TEST(shape_options, words_are_those_of_the_library) {
  for (Layout layout : {Layout::kCompact, Layout::kExpertContiguous, Layout::kExpertPadded}) {
    EXPECT_EQ(parse_layout(to_string(layout)), layout);
  }
  for (DataType dtype : {DataType::kByte, DataType::kFloat8E4M3, DataType::kUE8M0, DataType::kFloat16, DataType::kBFloat16,
                         DataType::kFloat32, DataType::kFloat64, DataType::kInt32, DataType::kInt64}) {
    EXPECT_EQ(parse_data_type(to_string(dtype)), dtype);
  }
  EXPECT_EQ(parse_overflow("drop"), Overflow::kDrop);
  EXPECT_THROW(parse_layout("padded"), UsageError);
  EXPECT_THROW(parse_data_type("fp8"), UsageError);
  EXPECT_THROW(parse_overflow(""), UsageError);
}

TEST(shape_options, lanes_have_a_type_and_a_count) {
  EXPECT_EQ(parse_lane("bfloat16:7168"), (Lane{DataType::kBFloat16, 7168}));
  for (const char* text : {"bfloat16", "bfloat16:", "bfloat16:0", "bfloat16:-1", "bfloat16:7x", "half:8", ":8"}) {
    SCOPED_TRACE(text);
    EXPECT_THROW(parse_lane(text), UsageError);
  }
}

TEST(shape_options, quantisation_has_three_formats_of_scales) {
  EXPECT_EQ(quantization_of("none", "byte"), std::nullopt);
  EXPECT_EQ(quantization_of("float8", "float16"), (Quantization{DataType::kFloat16, ScaleFormat::kFloat32}));
  EXPECT_EQ(quantization_of("float8-power-of-2", "float32"), (Quantization{DataType::kFloat32, ScaleFormat::kFloat32PowerOf2}));
  EXPECT_EQ(quantization_of("float8-ue8m0", "bfloat16"), (Quantization{DataType::kBFloat16, ScaleFormat::kUE8M0}));
  EXPECT_THROW(quantization_of("float8", "fp8"), UsageError);
  EXPECT_THROW(quantization_of("fp8", "bfloat16"), UsageError);
  EXPECT_EQ(quantized_lanes(ScaleFormat::kUE8M0, 200)[1], (Lane{DataType::kUE8M0, 2}));
  EXPECT_EQ(quantized_lanes(ScaleFormat::kFloat32, 200)[1], (Lane{DataType::kFloat32, 2}));
}

TEST(shape_options, fp8_has_a_lane_of_scales) {
  const std::vector<Lane> lanes = lanes_of("fp8", 200);
  ASSERT_EQ(lanes.size(), 2U);
  EXPECT_EQ(lanes[0], (Lane{DataType::kFloat8E4M3, 200}));
  EXPECT_EQ(lanes[1], (Lane{DataType::kFloat32, 2}));
  EXPECT_EQ(row_bytes(lanes), 208);
  EXPECT_EQ(combine_lane_of("fp8", 200), (Lane{DataType::kBFloat16, 200}));
}

TEST(shape_options, opaque_rows_are_not_summed) {
  EXPECT_EQ(combine_lane_of("byte", 16), std::nullopt);
  EXPECT_EQ(combine_lane_of("float64", 16), (Lane{DataType::kFloat64, 16}));
}

}  // namespace
}  // namespace tokenyard::cli
