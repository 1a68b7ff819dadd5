// The arguments of dispatch and combine, read from the caller's structs.
#pragma once

#include <vector>

#include "tokenyard.h"
#include "tokenyard/plan.hpp"

namespace tokenyard::capi {

// Owns the lists that its DispatchArgs refer to.
class DispatchArguments {
 public:
  explicit DispatchArguments(const ty_dispatch_args* given);
  DispatchArguments(const DispatchArguments&) = delete;
  DispatchArguments& operator=(const DispatchArguments&) = delete;

  const DispatchArgs& args() const noexcept { return args_; }

 private:
  std::vector<ConstTensorView> lanes_;
  std::vector<TensorView> outputs_;
  DispatchArgs args_;
};

CombineArgs read_combine_args(const ty_combine_args* given);

// Null: the defaults.
Execution read_execution(const ty_execution* given, const char* name);

}  // namespace tokenyard::capi
