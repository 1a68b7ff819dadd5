#include "capi/handles.hpp"
#include "capi/values.hpp"

using namespace tokenyard;
using namespace tokenyard::capi;

namespace {

// The second half of the kind that was begun.
template <class Half>
Half& half_of(ty_pending* pending, const char* begun, const char* wanted) {
  auto* half = std::get_if<Half>(&required(pending, "pending").call);
  if (half == nullptr) fail_argument("this call was begun by {}: complete it by {}", begun, wanted);
  return *half;
}

}  // namespace

ty_status ty_pending_done(const ty_pending* pending, bool* done) {
  return guarded([&] { required(done, "done") = required(pending, "pending").half().done(); });
}

ty_status ty_pending_wait(const ty_pending* pending, int32_t timeout_ms, bool* done) {
  return guarded(
      [&] { required(done, "done") = required(pending, "pending").half().wait(timeout_of(timeout_ms, "timeout_ms")); });
}

ty_status ty_pending_on_done(ty_pending* pending, ty_done_function function, void* context) {
  return guarded([&] {
    if (function == nullptr) fail_argument("function is NULL");
    std::visit([&](Pending& half) { half.on_done([function, context] { function(context); }); },
               required(pending, "pending").call);
  });
}

ty_status ty_pending_complete_dispatch(ty_pending* pending, ty_received** received) {
  return guarded_create(received, "received", [&] {
    auto& half = half_of<PendingDispatch>(pending, "ty_plan_begin_combine", "ty_pending_complete_combine");
    return std::make_unique<ty_received>(half.complete());
  });
}

ty_status ty_pending_complete_combine(ty_pending* pending) {
  return guarded(
      [&] { half_of<PendingCombine>(pending, "ty_plan_begin_dispatch", "ty_pending_complete_dispatch").complete(); });
}

void ty_pending_destroy(ty_pending* pending) { delete pending; }
