// Structs of callers that were compiled against an older or a newer header.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "capi/boundary.hpp"
#include "capi/defaults.hpp"

namespace tokenyard::capi {

// No struct comes near this; what claims to be larger was never initialised.
inline constexpr std::size_t kMaxStructBytes = 4096;

// A given struct_size, checked. `name` is that of the parameter or field.
std::size_t checked_struct_size(std::size_t struct_size, const char* name);

// Throws if a byte beyond the `known` first ones is not zero.
void check_unknown_fields(const void* given, std::size_t num_bytes, std::size_t known, const char* name);

// The caller's struct with the defaults for what it is too small for. A null pointer is an error.
template <class T>
T read_struct(const T* given, const char* name) {
  static_assert(std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T>);
  required(given, name);
  std::size_t num_bytes = 0;
  std::memcpy(&num_bytes, given, sizeof(num_bytes));
  num_bytes = checked_struct_size(num_bytes, name);
  check_unknown_fields(given, num_bytes, sizeof(T), name);
  T result = kDefaults<T>;
  std::memcpy(&result, given, std::min(num_bytes, sizeof(T)));
  result.struct_size = sizeof(T);
  return result;
}

// Calls use(element, i) for each struct of a caller's array.
template <class T, class Use>
void for_each_struct(const T* first, std::int32_t num_elements, const char* name, Use&& use) {
  if (num_elements < 0) fail_argument("the number of {} is {}: it must not be negative", name, num_elements);
  if (num_elements == 0) return;
  const std::size_t step = checked_struct_size(required(first, name).struct_size, name);
  for (std::int32_t i = 0; i < num_elements; ++i) {
    const auto* bytes = reinterpret_cast<const unsigned char*>(first) + static_cast<std::size_t>(i) * step;
    const auto* element = reinterpret_cast<const T*>(bytes);
    if (element->struct_size != step) {
      fail_argument("{}[{}] has struct_size {} and the first element {}: initialise all of them", name, i, element->struct_size,
                    step);
    }
    use(read_struct(element, name), i);
  }
}

// Fills the caller's struct as far as it goes. Fields that only the caller knows become zero.
template <class T>
void write_struct(const T& value, T* given, const char* name) {
  static_assert(std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T>);
  const std::size_t num_bytes = checked_struct_size(required(given, name).struct_size, name);
  constexpr std::size_t kFirst = sizeof(std::size_t);  // struct_size stays the caller's
  const std::size_t known = std::min(num_bytes, sizeof(T));
  auto* bytes = reinterpret_cast<unsigned char*>(given);
  std::memcpy(bytes + kFirst, reinterpret_cast<const unsigned char*>(&value) + kFirst, known - kFirst);
  std::memset(bytes + known, 0, num_bytes - known);
}

}  // namespace tokenyard::capi
