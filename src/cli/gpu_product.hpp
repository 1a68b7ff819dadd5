// A matrix product on a GPU, as the work beside which rows cross: bfloat16 by cuBLAS.
#pragma once

#include <cstdint>

#include "cli/cublas_library.hpp"
#include "cli/gpu_memory.hpp"
#include "tokenyard/execution.hpp"

namespace tokenyard::cli {

class GpuProduct {
 public:
  // On the current device. Takes its memory here: no rank's kernel may be waiting for another rank.
  explicit GpuProduct(Stream stream);
  ~GpuProduct();
  GpuProduct(const GpuProduct&) = delete;
  GpuProduct& operator=(const GpuProduct&) = delete;

  // The fewest rows, in steps, whose product takes long enough here; blocking. Ranks choose one of their own.
  std::int64_t choose_num_rows();
  void set_num_rows(std::int64_t num_rows) { num_rows_ = num_rows; }
  std::int64_t num_rows() const { return num_rows_; }
  // Products from now on use so many multiprocessors, if cuBLAS has a kernel that does.
  void use_sms(int num_sms) const;
  int cublas_version() const;

  // Into the stream.
  void enqueue();

 private:
  double measure();  // microseconds

  const CublasLibrary& cublas_;
  Stream stream_;
  CublasContext* context_ = nullptr;
  GpuMemory workspace_;
  GpuMemory left_;    // [kMostProductRows, kProductWidth]
  GpuMemory right_;   // [kProductWidth, kProductWidth]
  GpuMemory result_;  // as left_
  std::int64_t num_rows_ = 0;
};

}  // namespace tokenyard::cli
