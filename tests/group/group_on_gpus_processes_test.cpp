// Groups whose ranks are processes and live on GPUs. This process itself leaves CUDA alone, since it forks.
#include <cudaTypedefs.h>

#include "tests/support/gpus_apart.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/run_ranks.hpp"

namespace tokenyard::test {
namespace {

void expect_success(const std::vector<ProcessResult>& results) {
  for (std::size_t rank = 0; rank < results.size(); ++rank) {
    EXPECT_EQ(results[rank].exit_code, 0) << "rank " << rank << ", signal " << results[rank].signal;
  }
}

void expect_one_domain(std::shared_ptr<Exchange> exchange, int num_gpus) {
  GroupOptions options = patient();
  options.device = exchange->rank() % num_gpus;
  const Group group = Group::create(std::move(exchange), options);
  EXPECT_EQ(group.num_domains(), 1);
  EXPECT_EQ(group.device(), options.device);
  group.barrier();
}

TEST(group_of_processes_on_gpus, may_share_one) {
  SKIP_WITHOUT_GPUS_APART(1);
  expect_success(run_process_ranks(3, [](std::shared_ptr<Exchange> exchange) { expect_one_domain(std::move(exchange), 1); }));
}

TEST(group_of_processes_on_gpus, have_one_each) {
  SKIP_WITHOUT_GPUS_APART(2);
  expect_success(run_process_ranks(2, [](std::shared_ptr<Exchange> exchange) { expect_one_domain(std::move(exchange), 2); }));
}

TEST(group_of_processes_on_gpus, take_the_one_of_their_local_rank) {
  SKIP_WITHOUT_GPUS_APART(2);
  expect_success(run_process_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    const int rank = exchange->rank();
    for (const char* variable : {"RANK", "LOCAL_RANK"}) setenv(variable, std::to_string(rank).c_str(), 1);
    setenv("WORLD_SIZE", "2", 1);
    GroupOptions options = patient();
    options.device = kLocalDevice;
    const Group group = Group::create(std::move(exchange), options);
    EXPECT_EQ(group.device(), rank);
    group.barrier();
  }));
}

bool is_started(int device) {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult status{};
  check_cuda(cudaGetDriverEntryPointByVersion("cuDevicePrimaryCtxGetState", &function, 12'040, cudaEnableDefault, &status),
             "cudaGetDriverEntryPointByVersion");
  unsigned flags = 0;
  int is_active = 0;
  reinterpret_cast<PFN_cuDevicePrimaryCtxGetState_v7000>(function)(device, &flags, &is_active);
  return is_active != 0;
}

TEST(group_of_processes_on_gpus, start_cuda_on_their_own_alone) {
  SKIP_WITHOUT_GPUS_APART(2);
  expect_success(run_process_ranks(1, [](std::shared_ptr<Exchange> exchange) {
    GroupOptions options = patient();
    options.device = 1;
    {
      const Group group = Group::create(std::move(exchange), options);
      const Window window = group.window(64);
      window.signal(0, 0, 1);
      Shape shape;
      shape.num_experts = 2;
      shape.top_k = 1;
      shape.max_tokens = 8;
      shape.lanes = {{DataType::kFloat32, 16}};
      group.plan(shape);
      group.recover();
    }
    EXPECT_TRUE(is_started(1));
    EXPECT_FALSE(is_started(0));
    int device = -1;
    check_cuda(cudaGetDevice(&device), "cudaGetDevice");
    EXPECT_EQ(device, 0);
  }));
}

}  // namespace
}  // namespace tokenyard::test
