# What nearly all sources of the library include.
set(TOKENYARD_COMMON_HEADERS
  <algorithm> <array> <chrono> <functional> <map> <memory> <mutex> <optional> <span> <string> <thread> <vector> <fmt/core.h>)

# What GCC 12 wrongly says of sums of strings it holds back in headers of the system, but not in precompiled ones.
set(tokenyard_wrong_warnings
  "$<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-array-bounds;-Wno-restrict;-Wno-stringop-overflow;-Wno-stringop-overread>")

# tokenyard_precompile(target header...): compiles the headers once for all sources of a target.
function(tokenyard_precompile target)
  target_precompile_headers(${target} PRIVATE ${ARGN})
  target_compile_options(${target} PRIVATE ${tokenyard_wrong_warnings})
endfunction()

# tokenyard_reuse(target other): for this one, too, which is compiled with the same options.
function(tokenyard_reuse target other)
  target_precompile_headers(${target} REUSE_FROM ${other})
  target_compile_options(${target} PRIVATE ${tokenyard_wrong_warnings})
endfunction()
