#include "tokenyard/window.hpp"

#include "capi/handles.hpp"
#include "capi/structs.hpp"
#include "capi/values.hpp"

using namespace tokenyard;
using namespace tokenyard::capi;

namespace {

// A buffer of the caller; of no bytes it may be null.
template <class T>
T* buffer(T* pointer, size_t num_bytes, const char* name) {
  if (pointer == nullptr && num_bytes != 0) fail_argument("{} is NULL, for {} bytes", name, num_bytes);
  return pointer;
}

}  // namespace

ty_status ty_window_create(ty_group* group, size_t num_bytes, ty_window** window) {
  return guarded_create(window, "window", [&] {
    return std::unique_ptr<ty_window>(new ty_window{required(group, "group").group.window(num_bytes)});
  });
}

void ty_window_destroy(ty_window* window) { delete window; }

void* ty_window_local(const ty_window* window) { return window == nullptr ? nullptr : window->window.local(); }
size_t ty_window_num_bytes(const ty_window* window) { return window == nullptr ? 0 : window->window.num_bytes(); }
int32_t ty_window_rank(const ty_window* window) { return window == nullptr ? -1 : window->window.rank(); }
int32_t ty_window_num_ranks(const ty_window* window) { return window == nullptr ? -1 : window->window.num_ranks(); }

void* ty_window_mapped(const ty_window* window, int32_t peer) {
  if (window == nullptr || peer < 0 || peer >= window->window.num_ranks()) return nullptr;
  return window->window.mapped(peer);
}

ty_status ty_window_put(const ty_window* window, int32_t peer, size_t offset, const void* source, size_t num_bytes) {
  return guarded([&] { required(window, "window").window.put(peer, offset, buffer(source, num_bytes, "source"), num_bytes); });
}

ty_status ty_window_get(const ty_window* window, int32_t peer, size_t offset, void* destination, size_t num_bytes) {
  return guarded(
      [&] { required(window, "window").window.get(peer, offset, buffer(destination, num_bytes, "destination"), num_bytes); });
}

ty_status ty_window_signal(const ty_window* window, int32_t peer, size_t offset, uint64_t value) {
  return guarded([&] { required(window, "window").window.signal(peer, offset, value); });
}

ty_status ty_window_atomic_add(const ty_window* window, int32_t peer, size_t offset, uint64_t value, uint64_t* old_value) {
  return guarded([&] {
    const std::uint64_t old = required(window, "window").window.atomic_add(peer, offset, value);
    if (old_value != nullptr) *old_value = old;
  });
}

ty_status ty_window_load(const ty_window* window, size_t offset, uint64_t* value) {
  return guarded([&] { required(value, "value") = required(window, "window").window.load(offset); });
}

ty_status ty_window_wait(const ty_window* window, size_t offset, ty_compare compare, uint64_t value, int32_t timeout_ms,
                         uint64_t* seen) {
  return guarded([&] {
    const std::uint64_t word = required(window, "window")
                                   .window.wait(offset, enum_of(compare, Compare::kGreaterEqual, "compare"), value,
                                                timeout_or_group(timeout_ms, "timeout_ms"));
    if (seen != nullptr) *seen = word;
  });
}

ty_status ty_window_fence(const ty_window* window, int32_t peer) {
  return guarded([&] { required(window, "window").window.fence(peer); });
}

ty_status ty_window_quiet(const ty_window* window) {
  return guarded([&] { required(window, "window").window.quiet(); });
}

ty_status ty_window_put_in_stream(const ty_window* window, int32_t peer, size_t offset, const void* source, size_t num_bytes,
                                  void* stream) {
  return guarded([&] {
    required(window, "window")
        .window.put(peer, offset, buffer(source, num_bytes, "source"), num_bytes, static_cast<Stream>(stream));
  });
}

ty_status ty_window_signal_in_stream(const ty_window* window, int32_t peer, size_t offset, uint64_t value, void* stream) {
  return guarded([&] { required(window, "window").window.signal(peer, offset, value, static_cast<Stream>(stream)); });
}

ty_status ty_window_wait_in_stream(const ty_window* window, size_t offset, ty_compare compare, uint64_t value,
                                   int32_t timeout_ms, void* stream) {
  return guarded([&] {
    required(window, "window")
        .window.wait(offset, enum_of(compare, Compare::kGreaterEqual, "compare"), value, static_cast<Stream>(stream),
                     timeout_or_group(timeout_ms, "timeout_ms"));
  });
}

ty_status ty_window_get_device_window(const ty_window* window, ty_device_window* device_window) {
  return guarded([&] {
    const DeviceWindow& found = required(window, "window").window.device_window();
    ty_device_window written = TY_DEVICE_WINDOW_INIT;
    written.num_bytes = found.num_bytes;
    written.regions = reinterpret_cast<void* const*>(found.regions);
    written.failures = found.failures;
    written.timeout_nanoseconds = found.timeout_nanoseconds;
    written.missed_deadline = found.missed_deadline;
    written.rank = found.rank;
    written.num_ranks = found.num_ranks;
    write_struct(written, device_window, "device_window");
  });
}
