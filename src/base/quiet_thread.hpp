// A thread of the library's own: it takes no signals, which are for the threads that the program knows.
#pragma once

#include <functional>
#include <thread>

namespace tokenyard {

// `purpose` completes "cannot start the thread that". Throws Error(kSystem) where the system gives no thread.
std::thread start_quiet_thread(const char* purpose, std::function<void()> body);

}  // namespace tokenyard
