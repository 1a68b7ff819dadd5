#include "memory/handle_choice.hpp"

#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "tests/base/expect_error.hpp"

namespace tokenyard::test {
namespace {

constexpr HandleCapabilities kAll{
    .has_virtual_memory = true, .has_descriptors = true, .has_fabric_handles = true, .has_imex_channel = true, .has_ipc = true};

HandleKind chosen_of(const HandleCapabilities& capabilities, HandleKind wanted = HandleKind::kNone) {
  return choose_handle(offers_of(capabilities), wanted);
}

TEST(handle_choice, takes_descriptors_then_fabric_handles_then_ipc) {
  HandleCapabilities capabilities = kAll;
  EXPECT_EQ(chosen_of(capabilities), HandleKind::kDescriptor);
  capabilities.has_descriptors = false;
  EXPECT_EQ(chosen_of(capabilities), HandleKind::kFabric);
  capabilities.has_imex_channel = false;
  EXPECT_EQ(chosen_of(capabilities), HandleKind::kIpc);
}

TEST(handle_choice, without_virtual_memory_takes_ipc) {
  HandleCapabilities capabilities = kAll;
  capabilities.has_virtual_memory = false;
  EXPECT_EQ(chosen_of(capabilities), HandleKind::kIpc);
}

TEST(handle_choice, passes_over_what_the_driver_refused_when_asked) {
  HandleOffers offers = offers_of(kAll);
  offers[0].obstacle = "cuMemCreate failed: operation not permitted (800)";
  EXPECT_EQ(choose_handle(offers, HandleKind::kNone), HandleKind::kFabric);
  expect_error([&] { choose_handle(offers, HandleKind::kDescriptor); }, ErrorCode::kUnsupported,
               "operation not permitted (800)");
}

TEST(handle_choice, takes_what_is_wanted_if_it_is_offered) {
  for (const HandleKind wanted : {HandleKind::kDescriptor, HandleKind::kFabric, HandleKind::kIpc}) {
    EXPECT_EQ(chosen_of(kAll, wanted), wanted);
  }
  HandleCapabilities capabilities = kAll;
  capabilities.has_imex_channel = false;
  expect_error([&] { chosen_of(capabilities, HandleKind::kFabric); }, ErrorCode::kUnsupported,
               "TOKENYARD_GPU_HANDLE asks for handles of kind fabric, which cannot be had: no IMEX channel");
}

TEST(handle_choice, where_nothing_is_offered_says_why_of_each_kind) {
  for (const char* reason : {"descriptor: the driver has no virtual memory", "fabric: the driver has no virtual memory",
                             "ipc: the driver has no CUDA IPC", "threads of one process"}) {
    expect_error([] { chosen_of({}); }, ErrorCode::kUnsupported, reason);
  }
}

TEST(handle_choice, every_missing_capability_is_an_obstacle_of_its_kind_alone) {
  const auto kinds_without = [](bool HandleCapabilities::* capability) {
    HandleCapabilities capabilities = kAll;
    capabilities.*capability = false;
    std::vector<HandleKind> kinds;
    for (const HandleOffer& offer : offers_of(capabilities)) {
      if (!offer.is_offered()) kinds.push_back(offer.kind);
    }
    return kinds;
  };
  using Kinds = std::vector<HandleKind>;
  EXPECT_EQ(kinds_without(&HandleCapabilities::has_virtual_memory), Kinds({HandleKind::kDescriptor, HandleKind::kFabric}));
  EXPECT_EQ(kinds_without(&HandleCapabilities::has_descriptors), Kinds({HandleKind::kDescriptor}));
  EXPECT_EQ(kinds_without(&HandleCapabilities::has_fabric_handles), Kinds({HandleKind::kFabric}));
  EXPECT_EQ(kinds_without(&HandleCapabilities::has_imex_channel), Kinds({HandleKind::kFabric}));
  EXPECT_EQ(kinds_without(&HandleCapabilities::has_ipc), Kinds({HandleKind::kIpc}));
}

TEST(handle_choice, the_environment_names_a_kind_or_none) {
  const auto wanted_by = [](const char* text) {
    setenv("TOKENYARD_GPU_HANDLE", text, 1);
    return wanted_handle();
  };
  EXPECT_EQ(wanted_by("descriptor"), HandleKind::kDescriptor);
  EXPECT_EQ(wanted_by("fabric"), HandleKind::kFabric);
  EXPECT_EQ(wanted_by("ipc"), HandleKind::kIpc);
  EXPECT_EQ(wanted_by(""), HandleKind::kNone);
  expect_error([&] { wanted_by("none"); }, ErrorCode::kInvalidArgument,
               "TOKENYARD_GPU_HANDLE is none: it must be descriptor, fabric or ipc");
  unsetenv("TOKENYARD_GPU_HANDLE");
  EXPECT_EQ(wanted_handle(), HandleKind::kNone);
}

}  // namespace
}  // namespace tokenyard::test
