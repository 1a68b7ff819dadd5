// The few calls of cuBLAS that a matrix product needs, found at run time: nothing of it is needed to build or to start.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tokenyard/execution.hpp"

namespace tokenyard::cli {

// As cuBLAS's documentation describes them.
struct CublasContext;  // cuBLAS's own
inline constexpr int kCublasNoTranspose = 0;
inline constexpr int kCublasTranspose = 1;
inline constexpr int kCublasBFloat16 = 14;
inline constexpr int kCublasComputeFloat32 = 68;
inline constexpr int kCublasChosenAlgorithm = -1;

struct CublasLibrary {
  int (*create)(CublasContext** context);
  int (*destroy)(CublasContext* context);
  int (*get_version)(CublasContext* context, int* version);
  int (*set_stream)(CublasContext* context, Stream stream);
  int (*set_sm_count_target)(CublasContext* context, int num_sms);
  int (*set_workspace)(CublasContext* context, void* workspace, std::size_t num_bytes);
  int (*multiply)(CublasContext* context, int transpose_a, int transpose_b, int m, int n, int k, const void* alpha,
                  const void* a, int type_a, int lda, const void* b, int type_b, int ldb, const void* beta, void* c, int type_c,
                  int ldc, int compute_type, int algorithm);
  const char* (*error_text)(int result);

  // Throws Error(kSystem) with cuBLAS's words unless `result` is success; `call` names what returned it.
  void check(int result, const char* call) const;
};

// The variable that names a file, or the folder of libcublas.so.13 or libcublas.so.12.
inline constexpr const char* kCublasVariable = "TOKENYARD_CUBLAS";

// What is tried, one after the other; `named` is the variable's value or null. pip's packages have their libraries in folders
// that no loader searches.
std::vector<std::string> cublas_files(const char* named);

// Loads it for good. Throws Error(kUnsupported), which says what to install or to set, where there is none.
const CublasLibrary& cublas_library();

}  // namespace tokenyard::cli
