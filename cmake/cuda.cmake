# Finds the CUDA compiler and sets TOKENYARD_HAS_CUDA. Programs built with CUDA also run where there is no driver.
set(TOKENYARD_CUDA AUTO CACHE STRING "Build the GPU part: AUTO (where nvcc is found), ON, OFF, or SOFTWARE (for tests)")
set_property(CACHE TOKENYARD_CUDA PROPERTY STRINGS AUTO ON OFF SOFTWARE)
set(TOKENYARD_HAS_CUDA OFF)

if(TOKENYARD_CUDA STREQUAL "SOFTWARE")
  include(cmake/software_gpu.cmake)
  return()
endif()

# Sources as the CUDA compiler takes them.
function(tokenyard_cuda_sources variable)
  set(${variable} ${ARGN} PARENT_SCOPE)
endfunction()

# The sanitizers of the host and the CUDA driver both want the same addresses.
if(TOKENYARD_CUDA STREQUAL "OFF" OR (TOKENYARD_CUDA STREQUAL "AUTO" AND TOKENYARD_SANITIZE))
  return()
endif()

if(NOT CMAKE_CUDA_COMPILER)
  find_program(TOKENYARD_NVCC nvcc HINTS $ENV{CUDACXX} ENV PATH PATHS /usr/local/cuda/bin DOC "The CUDA compiler")
  if(DEFINED ENV{CUDACXX})
    set(CMAKE_CUDA_COMPILER $ENV{CUDACXX})
  elseif(TOKENYARD_NVCC)
    set(CMAKE_CUDA_COMPILER ${TOKENYARD_NVCC})
  elseif(TOKENYARD_CUDA STREQUAL "AUTO")
    return()
  else()
    message(FATAL_ERROR "TOKENYARD_CUDA is ON, but no nvcc is in the PATH or /usr/local/cuda/bin: set CUDACXX to it")
  endif()
endif()

execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE version_text)
string(REGEX MATCH "release ([0-9]+\\.[0-9]+)" nvcc_version "${version_text}")
if(NOT nvcc_version)
  message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} --version says no version: set CUDACXX to an nvcc, or TOKENYARD_CUDA=OFF")
endif()
set(nvcc_version ${CMAKE_MATCH_1})
if(nvcc_version VERSION_LESS 12.4)
  message(FATAL_ERROR "${CMAKE_CUDA_COMPILER} is of CUDA ${nvcc_version}, and Tokenyard's kernels need 12.4 or newer: set CUDACXX "
    "to a newer nvcc, or TOKENYARD_CUDA=OFF")
endif()

# Ampere, Hopper and, as of CUDA 12.8, both kinds of Blackwell as machine code; PTX of the newest for what comes later. CUDAARCHS
# in the environment asks for others, as CMake defines it.
if(NOT CMAKE_CUDA_ARCHITECTURES AND NOT DEFINED ENV{CUDAARCHS})
  if(nvcc_version VERSION_LESS 12.8)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
  else()
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90-real 100-real 120)
  endif()
endif()
set(CMAKE_CUDA_RUNTIME_LIBRARY None)  # linked by name, where it is needed
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
set(TOKENYARD_HAS_CUDA ON)
