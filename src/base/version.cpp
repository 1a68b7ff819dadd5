#include "tokenyard/version.hpp"

#define TOKENYARD_TEXT(number) #number
#define TOKENYARD_DOTTED(major, minor, patch) TOKENYARD_TEXT(major) "." TOKENYARD_TEXT(minor) "." TOKENYARD_TEXT(patch)

namespace tokenyard {

const char* version() noexcept {
  return TOKENYARD_DOTTED(TOKENYARD_VERSION_MAJOR, TOKENYARD_VERSION_MINOR, TOKENYARD_VERSION_PATCH);
}

}  // namespace tokenyard
