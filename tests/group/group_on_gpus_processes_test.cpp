// Groups whose ranks are processes and live on GPUs. This process itself leaves CUDA alone, since it forks.
#include "memory/cuda_driver.hpp"
#include "tests/base/expect_error.hpp"
#include "tests/support/gpus_apart.hpp"
#include "tests/support/group_options.hpp"
#include "tests/support/handles_apart.hpp"
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

// As launchers do that give every rank a GPU to see.
TEST(group_of_processes_on_gpus, take_the_only_one_that_they_see) {
  SKIP_WITHOUT_GPUS_APART(2);
  expect_success(run_process_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    const std::string rank = std::to_string(exchange->rank());
    for (const char* variable : {"RANK", "LOCAL_RANK", "CUDA_VISIBLE_DEVICES"}) setenv(variable, rank.c_str(), 1);
    setenv("TOKENYARD_SOFTWARE_GPUS", "1", 1);
    setenv("WORLD_SIZE", "2", 1);
    GroupOptions options = patient();
    options.device = kLocalDevice;
    const Group group = Group::create(std::move(exchange), options);
    EXPECT_EQ(group.device(), 0);
    const Window window = group.window(64);  // between GPUs of which each process sees its own
    window.signal(1 - group.rank(), 0, 7);
    window.wait(0, Compare::kEqual, 7);
    group.barrier();
  }));
}

class handles_of_processes_on_gpus : public testing::TestWithParam<HandleKind> {};
INSTANTIATE_TEST_SUITE_P(kinds, handles_of_processes_on_gpus,
                         testing::Values(HandleKind::kDescriptor, HandleKind::kFabric, HandleKind::kIpc),
                         [](const auto& kind) { return std::string(to_string(kind.param)); });

// Every rank writes its number to every rank's windows, of which the first are gone before the last are made.
void exercise_windows(std::shared_ptr<Exchange> exchange, int num_gpus) {
  GroupOptions options = patient();
  options.device = exchange->rank() % num_gpus;
  const Group group = Group::create(std::move(exchange), options);
  ASSERT_EQ(group.num_domains(), 1);
  for (int round = 0; round < 3; ++round) {
    const Window window = group.window(4096);
    const auto offset = 8 * static_cast<std::size_t>(group.rank());
    for (int peer = 0; peer < group.num_ranks(); ++peer) {
      window.signal(peer, offset, static_cast<std::uint64_t>(100 * round + 10 * group.rank() + peer + 1));
    }
    for (int peer = 0; peer < group.num_ranks(); ++peer) {
      window.wait(8 * static_cast<std::size_t>(peer), Compare::kEqual,
                  static_cast<std::uint64_t>(100 * round + 10 * peer + group.rank() + 1));
    }
  }
  group.barrier();
}

TEST_P(handles_of_processes_on_gpus, pass_windows_on_one_gpu) {
  SKIP_WITHOUT_GPUS_APART(1);
  SKIP_WITHOUT_HANDLES_APART(GetParam());
  expect_success(run_process_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    setenv("TOKENYARD_GPU_HANDLE", to_string(GetParam()), 1);
    exercise_windows(std::move(exchange), 1);
  }));
}

TEST_P(handles_of_processes_on_gpus, pass_windows_between_gpus) {
  SKIP_WITHOUT_GPUS_APART(2);
  SKIP_WITHOUT_HANDLES_APART(GetParam());
  expect_success(run_process_ranks(4, [](std::shared_ptr<Exchange> exchange) {
    setenv("TOKENYARD_GPU_HANDLE", to_string(GetParam()), 1);
    exercise_windows(std::move(exchange), 2);
  }));
}

TEST_P(handles_of_processes_on_gpus, that_are_wanted_and_missing_keep_ranks_apart_with_the_reason) {
  SKIP_WITHOUT_GPUS_APART(1);
  if (find_handle_obstacle_apart(GetParam()).empty()) GTEST_SKIP() << "GPU 0 has handles of kind " << to_string(GetParam());
  expect_success(run_process_ranks(2, [](std::shared_ptr<Exchange> exchange) {
    setenv("TOKENYARD_GPU_HANDLE", to_string(GetParam()), 1);
    GroupOptions options = patient();
    options.device = 0;
    const Group group = Group::create(std::move(exchange), options);
    EXPECT_EQ(group.num_domains(), 2);
    Shape shape;
    shape.num_experts = 2;
    shape.top_k = 1;
    shape.max_tokens = 4;
    shape.lanes = {{DataType::kBFloat16, 64}};
    expect_error([&] { group.plan(shape); }, ErrorCode::kUnsupported, "TOKENYARD_GPU_HANDLE asks for handles of kind");
    group.barrier();
  }));
}

TEST(group_of_processes_on_gpus, may_pass_memory_by_different_kinds_of_handles) {
  SKIP_WITHOUT_GPUS_APART(1);
  SKIP_WITHOUT_HANDLES_APART(HandleKind::kDescriptor);
  SKIP_WITHOUT_HANDLES_APART(HandleKind::kIpc);
  expect_success(run_process_ranks(3, [](std::shared_ptr<Exchange> exchange) {
    setenv("TOKENYARD_GPU_HANDLE", exchange->rank() == 1 ? "ipc" : "descriptor", 1);
    exercise_windows(std::move(exchange), 1);
  }));
}

TEST(group_of_processes_on_gpus, refuse_a_kind_of_handle_that_does_not_exist) {
  SKIP_WITHOUT_GPUS_APART(1);
  expect_success(run_process_ranks(1, [](std::shared_ptr<Exchange> exchange) {
    setenv("TOKENYARD_GPU_HANDLE", "socket", 1);
    GroupOptions options = patient();
    options.device = 0;
    expect_error([&] { Group::create(std::move(exchange), options); }, ErrorCode::kInvalidArgument,
                 "TOKENYARD_GPU_HANDLE is socket: it must be descriptor, fabric or ipc");
  }));
}

bool is_started(int device) {
  unsigned flags = 0;
  int is_active = 0;
  const auto get_state = reinterpret_cast<PFN_cuDevicePrimaryCtxGetState_v7000>(driver_function("cuDevicePrimaryCtxGetState"));
  get_state(device, &flags, &is_active);
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
