#include "tokenyard/trace.hpp"

#include "capi/boundary.hpp"

using namespace tokenyard;
using namespace tokenyard::capi;

ty_status ty_start_trace(const char* file) {
  return guarded([&] { start_trace(&required(file, "file")); });
}

ty_status ty_stop_trace(void) {
  return guarded([] { stop_trace(); });
}
