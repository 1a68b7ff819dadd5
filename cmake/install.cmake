# What `cmake --install` lays down, and how others find it: find_package(tokenyard) and pkg-config, both of which still work
# after the whole prefix has moved. src/cli installs the programs.
include(CMakePackageConfigHelpers)

set(tokenyard_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tokenyard)

install(TARGETS tokenyard EXPORT tokenyardCppTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS tokenyard_c EXPORT tokenyardCTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/tokenyard.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/tokenyard DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.hpp" PATTERN "*.cuh")
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})

# --- find_package(tokenyard) ---

install(EXPORT tokenyardCppTargets NAMESPACE tokenyard:: DESTINATION ${tokenyard_cmake_dir})
install(EXPORT tokenyardCTargets NAMESPACE tokenyard:: DESTINATION ${tokenyard_cmake_dir})
configure_package_config_file(cmake/tokenyardConfig.cmake.in ${PROJECT_BINARY_DIR}/tokenyardConfig.cmake
  INSTALL_DESTINATION ${tokenyard_cmake_dir})
# Before 1.0 a new minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tokenyardConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tokenyardConfig.cmake ${PROJECT_BINARY_DIR}/tokenyardConfigVersion.cmake
  DESTINATION ${tokenyard_cmake_dir})

# --- pkg-config ---

# pcfiledir is where pkg-config found the file, so paths are told from there. Absolute folders, where somebody set them, stay.
set(pkgconfig_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
if(IS_ABSOLUTE ${pkgconfig_dir})
  set(tokenyard_pc_prefix ${CMAKE_INSTALL_PREFIX})
else()
  file(RELATIVE_PATH prefix_from_pkgconfig /${pkgconfig_dir} /)
  string(REGEX REPLACE "/$" "" prefix_from_pkgconfig ${prefix_from_pkgconfig})
  set(tokenyard_pc_prefix "\${pcfiledir}/${prefix_from_pkgconfig}")
endif()
foreach(dir LIBDIR INCLUDEDIR)
  set(tokenyard_pc_${dir} ${CMAKE_INSTALL_${dir}})
  if(NOT IS_ABSOLUTE ${CMAKE_INSTALL_${dir}})
    set(tokenyard_pc_${dir} "\${prefix}/${CMAKE_INSTALL_${dir}}")
  endif()
endforeach()
# What a program that links the static library needs of CUDA.
set(tokenyard_pc_cuda_libs "")
if(TOKENYARD_HAS_CUDA)
  get_target_property(tokenyard_cudart CUDA::cudart_static IMPORTED_LOCATION)
  set(tokenyard_pc_cuda_libs " ${tokenyard_cudart} -ldl -lrt")
endif()
foreach(module tokenyard tokenyard-cpp)
  configure_file(cmake/${module}.pc.in ${PROJECT_BINARY_DIR}/${module}.pc @ONLY)
  install(FILES ${PROJECT_BINARY_DIR}/${module}.pc DESTINATION ${pkgconfig_dir})
endforeach()
