// What a plan leaves behind when its handles go while its kernels still run: kept until they are over, so that letting go never
// blocks and nothing is unmapped under a kernel.
#pragma once

#include <functional>
#include <memory>
#include <vector>

namespace tokenyard {

// `is_over`: asked at every later call, by any thread; must not throw. Frees what earlier plans have left as soon as it can.
void keep_until(std::function<bool()> is_over, std::vector<std::shared_ptr<void>> memory);

}  // namespace tokenyard
