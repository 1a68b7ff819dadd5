// Functions of the caller: bootstrap, allocation, completion, log.
#include <stdlib.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <cstring>
#include <mutex>

#include "tests/capi/c_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr int kNumRanks = 3;

// An all-gather between threads.
struct Gatherer {
  struct Rank {
    Gatherer* gatherer;
    int rank;
  };

  static ty_status gather(void* context, const void* block, size_t block_bytes, void* blocks, int32_t timeout_ms) {
    const auto* rank = static_cast<const Rank*>(context);
    EXPECT_GT(timeout_ms, 0);
    Gatherer& shared = *rank->gatherer;
    {
      const std::lock_guard lock(shared.mutex);
      shared.bytes.resize(block_bytes * kNumRanks);
      std::memcpy(shared.bytes.data() + block_bytes * static_cast<std::size_t>(rank->rank), block, block_bytes);
    }
    shared.all.arrive_and_wait();
    std::memcpy(blocks, shared.bytes.data(), shared.bytes.size());
    shared.all.arrive_and_wait();
    return TY_OK;
  }

  std::barrier<> all{kNumRanks};
  std::mutex mutex;
  std::vector<unsigned char> bytes;
};

TEST(callbacks, gather_for_an_exchange) {
  Gatherer gatherer;
  std::vector<std::jthread> threads;
  for (int rank = 0; rank < kNumRanks; ++rank) {
    threads.emplace_back([&, rank] {
      Gatherer::Rank context{&gatherer, rank};
      const auto exchange =
          make<CExchange>(ty_exchange_create_callback, rank, kNumRanks, &Gatherer::gather, static_cast<void*>(&context));
      EXPECT_EQ(ty_exchange_rank(exchange.get()), rank);
      EXPECT_EQ(ty_exchange_num_ranks(exchange.get()), kNumRanks);
      const int square = rank * rank;
      int squares[kNumRanks] = {};
      expect_ok(ty_exchange_all_gather(exchange.get(), &square, sizeof(square), squares, 10'000));
      EXPECT_THAT(squares, testing::ElementsAre(0, 1, 4));
      const auto group = make<CGroup>(ty_group_create, exchange.get(), nullptr);
      expect_ok(ty_group_barrier(group.get()));
    });
  }
}

ty_status failing_gather(void* context, const void*, size_t, void*, int32_t) {
  const auto* answer = static_cast<const std::pair<ty_status, const char*>*>(context);
  return answer->second == nullptr ? answer->first : ty_set_error(answer->first, answer->second);
}

TEST(callbacks, that_fail_to_gather_end_the_call_with_their_status_and_text) {
  const auto expect_failure = [](ty_status given, const char* text, ty_status wanted, const char* wanted_text) {
    std::pair<ty_status, const char*> answer{given, text};
    const auto exchange = make<CExchange>(ty_exchange_create_callback, 0, 2, &failing_gather, static_cast<void*>(&answer));
    ty_group* group = nullptr;
    expect_status(ty_group_create(exchange.get(), nullptr, &group), wanted, wanted_text);
    EXPECT_EQ(group, nullptr);
    // It ends the Exchange.
    expect_status(ty_exchange_barrier(exchange.get(), 1000), wanted, wanted_text);
  };
  expect_failure(TY_PEER_LOST, "the cable is out", TY_PEER_LOST, "the cable is out");
  expect_failure(TY_TIMEOUT, nullptr, TY_TIMEOUT, "the gather function returned timeout");
  expect_failure(TY_SYSTEM, "no such device", TY_SYSTEM, "no such device");
  expect_failure(TY_OUT_OF_MEMORY, "no memory for blocks", TY_SYSTEM, "no memory for blocks");
  expect_failure(4711, nullptr, TY_SYSTEM, "the gather function returned 4711, which is no ty_status");
  ty_exchange* exchange = nullptr;
  expect_status(ty_exchange_create_callback(0, 2, nullptr, nullptr, &exchange), TY_INVALID_ARGUMENT, "gather is NULL");
}

struct Allocation {
  std::vector<float> memory;
  int num_calls = 0;
  bool as_a_newer_caller = false;  // assigns a whole struct that is larger than the library's
  ty_status answer = TY_OK;
};

ty_status allocate(void* context, const ty_recv_sizes* sizes, ty_tensor* const* outputs, int32_t num_outputs) {
  auto* allocation = static_cast<Allocation*>(context);
  ++allocation->num_calls;
  EXPECT_EQ(num_outputs, 1);
  EXPECT_EQ(sizes->struct_size, sizeof(ty_recv_sizes));
  EXPECT_EQ(sizes->num_tensor_rows, sizes->num_recv_rows);
  if (allocation->answer != TY_OK) return ty_set_error(allocation->answer, "the pool is exhausted");
  allocation->memory.resize(static_cast<std::size_t>(sizes->num_tensor_rows) * kHidden + 1);
  const std::int64_t shape[2] = {sizes->num_tensor_rows, kHidden};
  ty_tensor_set_dense(outputs[0], allocation->memory.data(), TY_FLOAT32, 2, shape);
  if (allocation->as_a_newer_caller) {
    struct NewerTensor {
      ty_tensor known;
      std::int64_t added[4] = {};
    } newer{*outputs[0]};
    newer.known.struct_size = sizeof(newer);
    std::memcpy(static_cast<void*>(outputs[0]), &newer, sizeof(newer));
  }
  return TY_OK;
}

TEST(callbacks, allocate_where_rows_go) {
  for (const ty_mode mode : {TY_MODE_THROUGHPUT, TY_MODE_LATENCY}) {
    run_c_ranks(kNumRanks, [mode](int rank, ty_group* group) {
      const auto plan = make_small_plan(group, mode);
      const SmallLayer layer(rank);
      for (const bool newer : {false, true}) {
        Allocation allocation;
        allocation.as_a_newer_caller = newer;
        ty_dispatch_args args = layer.dispatch();
        args.allocate = allocate;
        args.allocate_context = &allocation;
        const auto received = make<CReceived>(ty_plan_dispatch, plan.get(), &args);
        EXPECT_EQ(allocation.num_calls, 1);
        ty_tensor rows = TY_TENSOR_INIT;
        expect_ok(ty_received_get_lane(received.get(), 0, &rows));
        EXPECT_EQ(rows.data, allocation.memory.data());
        EXPECT_FALSE(ty_received_live(received.get()));
      }
      expect_ok(ty_group_barrier(group));
    });
  }
}

TEST(callbacks, that_cannot_allocate_fail_the_call_on_their_rank_alone) {
  run_c_ranks(kNumRanks, [](int rank, ty_group* group) {
    const auto plan = make_small_plan(group);
    const SmallLayer layer(rank);
    Allocation allocation;
    ty_dispatch_args args = layer.dispatch();
    args.allocate = allocate;
    args.allocate_context = &allocation;
    for (const ty_status answer : {TY_OUT_OF_MEMORY, TY_UNSUPPORTED}) {
      if (rank == 1) allocation.answer = answer;
      ty_received* received = nullptr;
      const ty_status status = ty_plan_dispatch(plan.get(), &args, &received);
      const CReceived owner(received);
      if (rank == 1) {
        expect_status(status, answer, "the pool is exhausted");
        EXPECT_EQ(received, nullptr);
      } else {
        expect_ok(status);
      }
    }
    allocation.answer = TY_OK;
    const auto received = make<CReceived>(ty_plan_dispatch, plan.get(), &args);
    EXPECT_NE(received, nullptr);
    expect_ok(ty_group_barrier(group));
  });
}

TEST(callbacks, that_describe_no_tensor_are_refused) {
  run_c_ranks(1, [](int rank, ty_group* group) {
    const auto plan = make_small_plan(group);
    const SmallLayer layer(rank);
    ty_dispatch_args args = layer.dispatch();
    args.allocate = [](void*, const ty_recv_sizes*, ty_tensor* const* outputs, std::int32_t) -> ty_status {
      outputs[0]->num_dims = 9;
      return TY_OK;
    };
    ty_received* received = nullptr;
    expect_status(ty_plan_dispatch(plan.get(), &args, &received), TY_INVALID_ARGUMENT, "num_dims is 9");
  });
}

TEST(callbacks, say_that_a_call_is_done) {
  run_c_ranks(kNumRanks, [](int rank, ty_group* group) {
    const auto plan = make_small_plan(group, TY_MODE_LATENCY);
    const SmallLayer layer(rank);
    const ty_dispatch_args args = layer.dispatch();
    const auto pending = make<CPending>(ty_plan_begin_dispatch, plan.get(), &args);
    std::atomic<int> num_calls{0};
    expect_ok(ty_pending_on_done(pending.get(), [](void* context) { ++*static_cast<std::atomic<int>*>(context); }, &num_calls));
    expect_status(ty_pending_on_done(pending.get(), nullptr, nullptr), TY_INVALID_ARGUMENT, "function is NULL");
    bool done = false;
    expect_ok(ty_pending_wait(pending.get(), 20'000, &done));
    EXPECT_TRUE(done);
    done = false;
    expect_ok(ty_pending_done(pending.get(), &done));
    EXPECT_TRUE(done);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (num_calls == 0 && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    EXPECT_EQ(num_calls, 1);
    const auto received = make<CReceived>(ty_pending_complete_dispatch, pending.get());
    EXPECT_NE(received, nullptr);
    expect_ok(ty_group_barrier(group));
  });
}

struct Lines {
  std::mutex mutex;
  std::vector<std::pair<ty_log_level, std::string>> seen;
};

void keep_line(void* context, ty_log_level level, const char* text) {
  auto* lines = static_cast<Lines*>(context);
  const std::lock_guard lock(lines->mutex);
  lines->seen.emplace_back(level, text);
}

TEST(callbacks, get_the_log_from_the_level_that_is_set) {
  ::setenv("RANK", "0", 1);
  ::setenv("WORLD_SIZE", "1", 1);
  ::setenv("LOCAL_RANK", "0", 1);
  ::setenv("MASTER_ADDR", "127.0.0.1", 1);
  ::setenv("MASTER_PORT", "29501", 1);
  Lines lines;
  expect_ok(ty_set_log_function(keep_line, &lines));
  expect_ok(ty_set_log_level(TY_LOG_INFO));
  ty_tcp_rendezvous rendezvous = TY_TCP_RENDEZVOUS_INIT;
  expect_ok(ty_tcp_rendezvous_from_environment(&rendezvous));
  ASSERT_EQ(lines.seen.size(), 1U);
  EXPECT_EQ(lines.seen[0].first, TY_LOG_INFO);
  EXPECT_THAT(lines.seen[0].second, testing::HasSubstr("rank 0"));
  for (const ty_log_level level : {TY_LOG_WARNING, TY_LOG_ERROR, TY_LOG_OFF}) {
    expect_ok(ty_set_log_level(level));
    expect_ok(ty_tcp_rendezvous_from_environment(&rendezvous));
    EXPECT_EQ(lines.seen.size(), 1U);
  }
  expect_ok(ty_set_log_level(TY_LOG_DEBUG));
  expect_ok(ty_tcp_rendezvous_from_environment(&rendezvous));
  EXPECT_EQ(lines.seen.size(), 2U);
  expect_ok(ty_set_log_function(nullptr, nullptr));
  expect_ok(ty_set_log_level(TY_LOG_INFO));
  expect_ok(ty_tcp_rendezvous_from_environment(&rendezvous));
  EXPECT_EQ(lines.seen.size(), 2U);
  for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}) ::unsetenv(name);
}

}  // namespace
}  // namespace tokenyard::test
