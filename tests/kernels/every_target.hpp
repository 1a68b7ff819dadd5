// A fixture that runs its tests once per instruction set that this processor has and the library was compiled for. To be
// included first, since it must see the same targets as the library.
#pragma once

#include "kernels/host/vector_targets.hpp"
// After the targets are known.
#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "hwy/targets.h"

namespace tokenyard::test {

class EveryTarget : public testing::TestWithParam<std::int64_t> {
 protected:
  EveryTarget() {
    hwy::SetSupportedTargetsForTest(GetParam());
    hwy::GetChosenTarget().DeInit();
  }
  ~EveryTarget() override {
    hwy::SetSupportedTargetsForTest(0);
    hwy::GetChosenTarget().DeInit();
  }
};

}  // namespace tokenyard::test

#define TOKENYARD_ON_EVERY_TARGET(suite)                                                      \
  INSTANTIATE_TEST_SUITE_P(On, suite, testing::ValuesIn(hwy::SupportedAndGeneratedTargets()), \
                           [](const auto& param_info) { return std::string(hwy::TargetName(param_info.param)); })
