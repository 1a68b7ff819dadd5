// Every verb of a window.
#include <array>
#include <cstring>

#include "tests/capi/c_ranks.hpp"

namespace tokenyard::test {
namespace {

constexpr std::size_t kBytes = 4096;
constexpr std::size_t kFlag = 1024;
constexpr std::size_t kCounter = 1032;

TEST(window, carries_bytes_and_signals_between_ranks) {
  run_c_ranks(2, [](int rank, ty_group* group) {
    const auto window = make<CWindow>(ty_window_create, group, kBytes);
    const ty_window* w = window.get();
    const int peer = 1 - rank;
    EXPECT_EQ(ty_window_rank(w), rank);
    EXPECT_EQ(ty_window_num_ranks(w), 2);
    EXPECT_EQ(ty_window_num_bytes(w), kBytes);
    EXPECT_EQ(ty_window_mapped(w, rank), ty_window_local(w));
    EXPECT_NE(ty_window_mapped(w, peer), nullptr);
    EXPECT_EQ(ty_window_mapped(w, 2), nullptr);
    EXPECT_EQ(ty_group_device(group), -1);

    const std::array<int, 4> sent{rank, 10, 20, 30};
    expect_ok(ty_window_put(w, peer, 64, sent.data(), sizeof(sent)));
    expect_ok(ty_window_fence(w, peer));
    expect_ok(ty_window_signal(w, peer, kFlag, 7));
    std::uint64_t seen = 0;
    expect_ok(ty_window_wait(w, kFlag, TY_COMPARE_GREATER_EQUAL, 7, TY_GROUP_TIMEOUT, &seen));
    EXPECT_EQ(seen, 7U);
    std::array<int, 4> came{};
    std::memcpy(came.data(), static_cast<const std::byte*>(ty_window_local(w)) + 64, sizeof(came));
    EXPECT_EQ(came, (std::array<int, 4>{peer, 10, 20, 30}));

    std::array<int, 4> fetched{};
    expect_ok(ty_window_get(w, peer, 64, fetched.data(), sizeof(fetched)));
    EXPECT_EQ(fetched, sent);
    std::uint64_t old_value = 99;
    expect_ok(ty_window_atomic_add(w, 0, kCounter, 5, &old_value));
    EXPECT_THAT(old_value, testing::AnyOf(0U, 5U, 6U));  // the other rank may have added before
    expect_ok(ty_window_atomic_add(w, 0, kCounter, 1, nullptr));
    expect_ok(ty_window_quiet(w));
    if (rank == 0) {
      expect_ok(ty_window_wait(w, kCounter, TY_COMPARE_EQUAL, 12, TY_GROUP_TIMEOUT, nullptr));
      std::uint64_t value = 0;
      expect_ok(ty_window_load(w, kCounter, &value));
      EXPECT_EQ(value, 12U);
    }
    expect_ok(ty_group_barrier(group));
  });
}

TEST(window, refuses_what_lies_outside_and_waits_no_longer_than_told) {
  run_c_ranks(2, [](int rank, ty_group* group) {
    const auto window = make<CWindow>(ty_window_create, group, kBytes);
    const ty_window* w = window.get();
    int value = 0;
    expect_status(ty_window_put(w, 1, kBytes - 2, &value, sizeof(value)), TY_INVALID_ARGUMENT, "");
    expect_status(ty_window_get(w, 2, 0, &value, sizeof(value)), TY_INVALID_ARGUMENT, "2");
    expect_status(ty_window_put(w, 1, 0, nullptr, 4), TY_INVALID_ARGUMENT, "source is NULL");
    expect_status(ty_window_get(w, 1, 0, nullptr, 4), TY_INVALID_ARGUMENT, "destination is NULL");
    expect_status(ty_window_signal(w, 1, 3, 1), TY_INVALID_ARGUMENT, "");
    expect_status(ty_window_load(w, 0, nullptr), TY_INVALID_ARGUMENT, "value is NULL");
    expect_status(ty_window_wait(w, 0, 3, 1, 10, nullptr), TY_INVALID_ARGUMENT, "compare is 3");
    expect_status(ty_window_wait(w, 0, TY_COMPARE_EQUAL, 1, -2, nullptr), TY_INVALID_ARGUMENT, "timeout_ms is -2");
    expect_status(ty_window_put_in_stream(w, 1, 0, &value, sizeof(value), nullptr), TY_UNSUPPORTED, "lies in host memory");
    expect_status(ty_window_signal_in_stream(w, 1, 0, 1, nullptr), TY_UNSUPPORTED, "lies in host memory");
    expect_status(ty_window_wait_in_stream(w, 0, TY_COMPARE_EQUAL, 1, 10, nullptr), TY_UNSUPPORTED, "lies in host memory");
    ty_device_window device_window = TY_DEVICE_WINDOW_INIT;
    expect_status(ty_window_get_device_window(w, &device_window), TY_UNSUPPORTED, "lies in host memory");
    expect_ok(ty_group_barrier(group));
    if (rank == 0) expect_status(ty_window_wait(w, 0, TY_COMPARE_NOT_EQUAL, 0, 20, nullptr), TY_TIMEOUT, "to be != 0; it is 0");
  });
}

}  // namespace
}  // namespace tokenyard::test
