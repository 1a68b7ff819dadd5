#include "capi/structs.hpp"

namespace tokenyard::capi {

std::size_t checked_struct_size(std::size_t struct_size, const char* name) {
  if (struct_size < sizeof(std::size_t) || struct_size > kMaxStructBytes) {
    fail_argument("{}: struct_size is {}, which no struct of Tokenyard has: initialise it with its TY_..._INIT", name,
                  struct_size);
  }
  return struct_size;
}

void check_unknown_fields(const void* given, std::size_t num_bytes, std::size_t known, const char* name) {
  const auto* bytes = static_cast<const unsigned char*>(given);
  for (std::size_t i = known; i < num_bytes; ++i) {
    if (bytes[i] == 0) continue;
    fail_argument(
        "{}: the program was compiled for a newer Tokenyard, whose struct has {} bytes, and sets a field at byte {} of it. "
        "This "
        "library is too old: it is Tokenyard {} with ABI {}.{}, knows {} bytes, and takes more only if they are zero",
        name, num_bytes, i, ty_version(), TY_ABI_MAJOR, TY_ABI_MINOR, known);
  }
}

}  // namespace tokenyard::capi
