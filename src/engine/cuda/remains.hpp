// Memory that kernels may still use when nobody else does: kept until they are over.
//
// Unmapping what a kernel still uses is a fault in it. CUDA may also wait for the kernels of the device, and a kernel may wait
// for a rank whose next launch would stand behind the unmapping. So memory is not freed when it is let go, but at the next
// moment when no rank can be waiting for this one's next launch: while a plan is made or a slot grows, which all ranks do
// together.
#pragma once

#include <functional>
#include <memory>
#include <vector>

namespace tokenyard {

// `is_over` is asked by any thread, and must not throw.
void keep_until(std::function<bool()> is_over, std::vector<std::shared_ptr<void>> memory);

// Frees what can be freed by now.
void free_remains();

}  // namespace tokenyard
