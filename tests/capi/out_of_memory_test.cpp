// What becomes of a call when memory runs out, at each of its allocations in turn. Every allocation in C++ of this program, the
// library's included, goes through the operators below.
#include <cstdlib>
#include <new>

#include "tests/capi/c_ranks.hpp"

namespace {
thread_local int allocations_left = -1;  // -1: as many as there are

void* allocate(std::size_t num_bytes) {
  if (allocations_left == 0) throw std::bad_alloc();
  if (allocations_left > 0) --allocations_left;
  void* memory = std::malloc(num_bytes == 0 ? 1 : num_bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

void* operator new(std::size_t num_bytes) { return allocate(num_bytes); }
void* operator new[](std::size_t num_bytes) { return allocate(num_bytes); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace tokenyard::test {
namespace {

// Calls with more and more allocations until one succeeds; all others must say that memory ran out. Returns how many they were.
template <class Call>
int starve(Call call) {
  for (int num_allocations = 0;; ++num_allocations) {
    allocations_left = num_allocations;
    const ty_status status = call();
    allocations_left = -1;
    if (status == TY_OK) return num_allocations;
    EXPECT_EQ(status, TY_OUT_OF_MEMORY) << ty_last_error();
    EXPECT_STRNE(ty_last_error(), "");
    if (num_allocations > 1000 || status != TY_OUT_OF_MEMORY) return -1;
  }
}

TEST(memory, that_runs_out_is_a_status_of_its_own) {
  const ty_lane lane = float_lane();
  const ty_shape shape = small_shape(&lane);
  ty_plan_sizes sizes = TY_PLAN_SIZES_INIT;
  EXPECT_GT(starve([&] { return ty_compute_plan_sizes(&shape, 2, &sizes); }), 3);

  ty_exchange* exchanges[3] = {};
  EXPECT_GT(starve([&] { return ty_exchange_create_threads(3, exchanges); }), 3);
  for (ty_exchange* exchange : exchanges) ty_exchange_destroy(exchange);

  const float bias[kNumExperts] = {};
  ty_router_options options = TY_ROUTER_OPTIONS_INIT;
  options.num_experts = kNumExperts;
  options.top_k = kTopK;
  options.correction_bias = bias;
  ty_router* router = nullptr;
  EXPECT_GT(starve([&] { return ty_router_create(&options, &router); }), 0);
  ty_router_destroy(router);
}

TEST(memory, that_runs_out_for_the_text_of_an_error_leaves_a_shorter_one) {
  std::jthread([] {
    allocations_left = 0;
    const ty_status status = ty_set_error(TY_STALE, "a text that is far too long for the place inside of a string");
    allocations_left = -1;
    EXPECT_EQ(status, TY_STALE);
    EXPECT_STREQ(ty_last_error(), "there is no memory for the text of this error");
    expect_status(ty_group_barrier(nullptr), TY_INVALID_ARGUMENT, "group is NULL");
  }).join();
}

}  // namespace
}  // namespace tokenyard::test
