// The line that no exception crosses. Every function of the C interface that can fail runs its body in guarded().
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "base/fail.hpp"
#include "tokenyard.h"
#include "tokenyard/error.hpp"

namespace tokenyard::capi {

// What a callback of the caller returned instead of TY_OK, on its way through the library.
class CallbackError : public std::exception {
 public:
  CallbackError(ty_status status, std::string text) : status_(status), text_(std::move(text)) {}
  ty_status status() const noexcept { return status_; }
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  ty_status status_;
  std::string text_;
};

constexpr ty_status status_of(ErrorCode code) noexcept { return static_cast<ty_status>(code) + 1; }

// Keeps the exception that is being handled as this thread's error, and says which status it is.
ty_status keep_current_exception() noexcept;

// This thread's error for a callback: forgotten before it is called, and read when it has failed. `name` is the callback's.
void forget_error() noexcept;
[[noreturn]] void throw_callback_error(const char* name, ty_status status);

template <class Body>
ty_status guarded(Body&& body) noexcept {
  try {
    std::forward<Body>(body)();
    return TY_OK;
  } catch (...) {
    return keep_current_exception();
  }
}

// A pointer that must not be null.
template <class T>
T& required(T* pointer, const char* name) {
  if (pointer == nullptr) fail_argument("{} is NULL", name);
  return *pointer;
}

// Runs `make`, which returns the owner of a new handle, and hands that over to *out, which is NULL until then.
template <class Handle, class Make>
ty_status guarded_create(Handle** out, const char* name, Make&& make) noexcept {
  if (out != nullptr) *out = nullptr;
  return guarded([&] {
    Handle*& written = required(out, name);
    written = std::forward<Make>(make)().release();
  });
}

}  // namespace tokenyard::capi
