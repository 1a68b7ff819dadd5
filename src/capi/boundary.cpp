#include "capi/boundary.hpp"

#include <new>

#include "capi/structs.hpp"

namespace tokenyard::capi {
namespace {

// This thread's last error. When there is no memory for its text, the fixed one is told.
struct LastError {
  std::string text;
  const char* fixed_text = nullptr;
  ty_failure failure = TY_FAILURE_INIT;

  const char* c_str() const noexcept { return fixed_text != nullptr ? fixed_text : text.c_str(); }
};

LastError& last_error() noexcept {
  thread_local LastError error;
  return error;
}

ty_status keep(ty_status status, const char* text, const Failure& where = {}) noexcept {
  LastError& error = last_error();
  error.failure.code = status;
  error.failure.phase = static_cast<ty_phase>(where.phase);
  error.failure.culprit = where.culprit;
  error.failure.reporter = where.reporter;
  try {
    error.text = text;
    error.fixed_text = nullptr;
  } catch (...) {
    error.fixed_text = "there is no memory for the text of this error";
  }
  return status;
}

}  // namespace

ty_status keep_current_exception() noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return keep(status_of(error.code()), error.what(), error.failure());
  } catch (const CallbackError& error) {
    return keep(error.status(), error.what());
  } catch (const std::bad_alloc&) {
    return keep(TY_OUT_OF_MEMORY, "this process has no memory left");
  } catch (const std::exception& error) {
    return keep(TY_INTERNAL, error.what());
  } catch (...) {
    return keep(TY_INTERNAL, "something was thrown that is no exception of the standard library");
  }
}

void forget_error() noexcept { last_error() = {}; }

void throw_callback_error(const char* name, ty_status status) {
  const char* text = last_error().c_str();
  const bool known = status > TY_OK && status <= TY_INTERNAL;
  throw CallbackError(known ? status : TY_SYSTEM, *text != '\0' ? std::string(text)
                                                  : known       ? fmt::format("{} returned {}", name, ty_status_name(status))
                                                          : fmt::format("{} returned {}, which is no ty_status", name, status));
}

}  // namespace tokenyard::capi

using namespace tokenyard::capi;

const char* ty_last_error(void) { return last_error().c_str(); }

ty_status ty_get_last_failure(ty_failure* failure) {
  const ty_failure last = last_error().failure;  // what goes wrong below replaces it
  return guarded([&] { write_struct(last, failure, "failure"); });
}

ty_status ty_set_error(ty_status status, const char* text) { return keep(status, text == nullptr ? "" : text); }
