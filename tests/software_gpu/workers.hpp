// Threads of the host that run what they are given, as many as there is to do at once. They last as long as the process.
#pragma once

#include <functional>

namespace software_gpu {

void run_apart(std::function<void()> work);

}  // namespace software_gpu
