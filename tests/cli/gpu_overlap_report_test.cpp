#include "cli/gpu_overlap_report.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/gpu_operations.hpp"

namespace tokenyard::cli {
namespace {

using testing::HasSubstr;

TEST(gpu_overlap_report, the_loss_is_what_a_product_takes_longer_than_the_one_just_before) {
  OverlapResult result{.operation = kCombineInPlace,
                       .copies = "engine",
                       .is_urgent = true,
                       .num_sms = 16,
                       .product_alone = {1000, 1200, 5000},
                       .product_beside = {1050, 1320, 9000},
                       .call_alone = {200, 210, 220},
                       .call_beside = {300, 310, 320}};
  Record record = to_overlap_record(result);
  EXPECT_EQ(find(record, "priority"), Value("higher"));
  EXPECT_EQ(find(record, "product_us"), Value(1200.0));
  EXPECT_EQ(find(record, "product_beside_us"), Value(1320.0));
  EXPECT_NEAR(find(record, "loss_percent").real, 10, 1e-9);
  EXPECT_EQ(find(record, "call_us"), Value(210.0));
  EXPECT_EQ(find(record, "call_beside_us"), Value(310.0));
  EXPECT_EQ(find(record, "wrong_rows"), Value());  // nothing was checked, so nothing is claimed
  result.is_urgent = false;
  result.checked_rows = 8;
  result.wrong_rows = 1;
  record = to_overlap_record(result);
  EXPECT_EQ(find(record, "priority"), Value("lower"));
  EXPECT_EQ(find(record, "wrong_rows"), Value(1));
}

TEST(gpu_overlap_report, the_product_is_described) {
  BenchOptions options;
  options.device = "cuda";
  options.overlap = true;
  options.token_counts = {50};
  options.hidden = 64;
  options.num_experts = 12;
  options.top_k = 2;
  const BenchSetup setup = make_bench_setups(options, 2).front();
  const ProductScene product{.num_rows = 5'376, .width = 8'192, .cublas_version = 130'000};
  EXPECT_THAT(overlap_heading(setup, {.gpu = "a card"}, product), HasSubstr("[5,376, 8,192] x [8,192, 8,192]"));
  const Record header = overlap_header(setup, {.gpu = "a card"}, product);
  EXPECT_EQ(find(header, "product_rows"), Value(5'376));
  EXPECT_EQ(find(header, "cublas_version"), Value(130'000));
  EXPECT_EQ(find(header, "gpu"), Value("a card"));
}

}  // namespace
}  // namespace tokenyard::cli
