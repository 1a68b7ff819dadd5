# Kernels compiled by the C++ compiler, for the GPUs in software of tests/software_gpu: only headers of CUDA are needed.
if(TOKENYARD_SANITIZE MATCHES "thread")
  message(FATAL_ERROR "TOKENYARD_CUDA=SOFTWARE: ThreadSanitizer does not know the threads of these GPUs: set it to OFF")
endif()
find_path(TOKENYARD_CUDA_INCLUDE cuda_runtime_api.h HINTS /usr/local/cuda/include /usr/local/cuda/targets/x86_64-linux/include
          DOC "The folder of CUDA's headers" REQUIRED)
find_package(Boost REQUIRED COMPONENTS context)
find_package(Python3 REQUIRED COMPONENTS Interpreter)
set(TOKENYARD_HAS_CUDA ON)

set(TOKENYARD_TRANSLATED ${PROJECT_BINARY_DIR}/translated)
include_directories(BEFORE ${TOKENYARD_TRANSLATED}/src ${TOKENYARD_TRANSLATED}/include)
include_directories(${PROJECT_SOURCE_DIR} ${PROJECT_SOURCE_DIR}/src)

# The translation of a file is made under its path.
function(tokenyard_translate source target)
  add_custom_command(OUTPUT ${target}
    COMMAND Python3::Interpreter ${PROJECT_SOURCE_DIR}/tests/software_gpu/translate.py ${source} ${target}
    DEPENDS ${source} ${PROJECT_SOURCE_DIR}/tests/software_gpu/translate.py
    VERBATIM)
endfunction()

file(GLOB_RECURSE headers RELATIVE ${PROJECT_SOURCE_DIR} CONFIGURE_DEPENDS
  ${PROJECT_SOURCE_DIR}/src/kernels/cuda/*.cuh ${PROJECT_SOURCE_DIR}/include/*.cuh)
set(translated_headers "")
foreach(header IN LISTS headers)
  tokenyard_translate(${PROJECT_SOURCE_DIR}/${header} ${TOKENYARD_TRANSLATED}/${header})
  list(APPEND translated_headers ${TOKENYARD_TRANSLATED}/${header})
endforeach()
add_custom_target(tokenyard_translated_headers DEPENDS ${translated_headers})

# Stacks of fibers are many and short-lived: a second one for each, in which AddressSanitizer keeps what functions have left, would
# cost more than all else.
set(tokenyard_fiber_options "")
if(TOKENYARD_SANITIZE MATCHES "address" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  set(tokenyard_fiber_options --param=asan-use-after-return=0)
endif()

# Sources as the C++ compiler takes them.
function(tokenyard_cuda_sources variable)
  set(sources "")
  foreach(source IN LISTS ARGN)
    if(source MATCHES "\\.cu$")
      cmake_path(ABSOLUTE_PATH source OUTPUT_VARIABLE path)
      cmake_path(RELATIVE_PATH path BASE_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE relative)
      set(translated ${TOKENYARD_TRANSLATED}/${relative}.cpp)
      tokenyard_translate(${path} ${translated})
      set_source_files_properties(${translated} PROPERTIES
        COMPILE_OPTIONS "-include;tests/software_gpu/device_code.hpp;-w;${tokenyard_fiber_options}"
        SKIP_PRECOMPILE_HEADERS ON
        OBJECT_DEPENDS "${translated_headers}")
      set(source ${translated})
    endif()
    list(APPEND sources ${source})
  endforeach()
  set(${variable} ${sources} PARENT_SCOPE)
endfunction()

# One for all that link it, statically or not: its streams and memory are those of the process.
add_library(tokenyard_software_gpu SHARED
  tests/software_gpu/block.cpp
  tests/software_gpu/bulk_copies.cpp
  tests/software_gpu/context.cpp
  tests/software_gpu/driver.cpp
  tests/software_gpu/heap.cpp
  tests/software_gpu/launch.cpp
  tests/software_gpu/memory.cpp
  tests/software_gpu/runtime_devices.cpp
  tests/software_gpu/runtime_graphs.cpp
  tests/software_gpu/runtime_memory.cpp
  tests/software_gpu/runtime_streams.cpp
  tests/software_gpu/stream.cpp
  tests/software_gpu/workers.cpp)
target_compile_features(tokenyard_software_gpu PUBLIC cxx_std_20)
set_target_properties(tokenyard_software_gpu PROPERTIES POSITION_INDEPENDENT_CODE ON)
target_include_directories(tokenyard_software_gpu SYSTEM PUBLIC ${TOKENYARD_CUDA_INCLUDE})
target_link_libraries(tokenyard_software_gpu PRIVATE tokenyard_options Boost::context Threads::Threads)
target_compile_options(tokenyard_software_gpu PRIVATE ${tokenyard_fiber_options})
add_library(CUDA::cudart_static ALIAS tokenyard_software_gpu)
