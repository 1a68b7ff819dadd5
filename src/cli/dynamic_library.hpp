// Calls of a library that is loaded at run time, for good: nothing of it is needed to build or to start.
#pragma once

#include <dlfcn.h>

#include <string>
#include <utility>

#include "base/fail.hpp"

namespace tokenyard::cli {

class DynamicLibrary {
 public:
  // Loads the file, or says why not by reason().
  explicit DynamicLibrary(std::string file) : file_(std::move(file)), handle_(dlopen(file_.c_str(), RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr) reason_ = dlerror();
  }

  bool is_loaded() const { return handle_ != nullptr; }
  const std::string& reason() const { return reason_; }

  // Sets `call` to the function of this name. Throws Error(kUnsupported) where there is none; `option` is what asks for it.
  template <class Call>
  void find(const char* name, const char* option, Call* call) const {
    *call = reinterpret_cast<Call>(dlsym(handle_, name));
    if (*call == nullptr) fail(ErrorCode::kUnsupported, "{}: {} has no {}: a newer one is needed", option, file_, name);
  }

 private:
  std::string file_;
  void* handle_;
  std::string reason_;
};

}  // namespace tokenyard::cli
