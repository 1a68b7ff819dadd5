// Groups whose ranks are threads and live on GPUs.
#include <atomic>

#include "memory/gpus.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/kernels/cuda/device_array.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

GroupOptions on_gpu(int device) {
  GroupOptions options = patient();
  options.device = device;
  return options;
}

TEST(group_on_gpus, many_ranks_may_share_one) {
  SKIP_WITHOUT_GPUS(1);
  run_thread_ranks(8, [](std::shared_ptr<Exchange> exchange) {
    const Group group = Group::create(std::move(exchange), on_gpu(0));
    EXPECT_EQ(group.device(), 0);
    EXPECT_EQ(group.num_domains(), 1);
    group.barrier();
  });
}

TEST(group_on_gpus, gpus_that_reach_each_other_are_one_domain_and_others_say_why_not) {
  SKIP_WITHOUT_GPUS(2);
  const PeerAccess access = peer_access(0, 1);
  run_thread_ranks(2, [&](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    const Group group = Group::create(std::move(exchange), on_gpu(rank));
    EXPECT_EQ(group.device(), rank);
    EXPECT_EQ(group.num_domains(), access.is_possible ? 1 : 2);
    if (!access.is_possible)
      expect_error([&] { group.plan(Shape{}); }, ErrorCode::kUnsupported, "cannot reach the memory of GPU");
    group.barrier();
  });
}

TEST(group_on_gpus, the_local_device_is_the_first_without_a_launcher) {
  SKIP_WITHOUT_GPUS(1);
  const Group group = Group::create(make_thread_exchange(1)[0], on_gpu(kLocalDevice));
  EXPECT_EQ(group.device(), 0);
}

TEST(group_on_gpus, a_rank_without_one_among_ranks_with_one_is_named) {
  SKIP_WITHOUT_GPUS(1);
  run_thread_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    const bool is_odd = exchange->rank() == 1;
    expect_error([&] { Group::create(exchange, is_odd ? patient() : on_gpu(0)); }, ErrorCode::kDisagreement,
                 is_odd ? "rank 0 has a GPU" : "rank 1 has no device");
  });
}

TEST(group_on_gpus, a_rank_that_alone_asks_for_copy_engines_is_named) {
  SKIP_WITHOUT_GPUS(1);
  run_thread_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    GroupOptions options = on_gpu(0);
    options.copy_engines = exchange->rank() == 1;
    expect_error([&] { Group::create(exchange, options); }, ErrorCode::kDisagreement, "rank 1 alone asks for copy engines");
  });
}

TEST(group_on_gpus, options_that_the_gpu_does_not_have_are_refused) {
  SKIP_WITHOUT_GPUS(1);
  const auto create = [](int device, int num_sms) {
    GroupOptions options = on_gpu(device);
    options.num_sms = num_sms;
    return Group::create(make_thread_exchange(1)[0], options);
  };
  expect_error([&] { create(99, 0); }, ErrorCode::kInvalidArgument, "GroupOptions::device is 99 and this process sees");
  expect_error([&] { create(0, 100'000); }, ErrorCode::kInvalidArgument, "num_sms is 100000");
  expect_error([&] { create(0, -1); }, ErrorCode::kInvalidArgument, "num_sms is -1");
  EXPECT_EQ(create(0, 1).device(), 0);
}

TEST(group_on_gpus, making_one_leaves_the_current_device_alone) {
  SKIP_WITHOUT_GPUS(2);
  check_cuda(cudaSetDevice(0), "cudaSetDevice");
  const Group group = Group::create(make_thread_exchange(1)[0], on_gpu(1));
  int device = -1;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  EXPECT_EQ(device, 0);
}

}  // namespace
}  // namespace tokenyard::test
