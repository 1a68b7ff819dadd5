// Two-dimensional arrays in files that NumPy reads and writes (.npy, format versions 1.0 and 2.0).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tokenyard/tensor_view.hpp"

namespace tokenyard::cli {

struct NpyArray {
  DataType dtype = DataType::kInt64;  // kInt32, kInt64 or kFloat32
  std::int64_t num_rows = 0;
  std::int64_t num_columns = 0;
  std::vector<std::byte> bytes;  // row-major, dense

  // Element [row, column] of an integer array.
  std::int64_t integer(std::int64_t row, std::int64_t column) const;
};

// Throws Error: kSystem where the file cannot be read, kInvalidArgument where it is not such an array. The text says which part
// of the file is wrong, what stands there and what was expected.
NpyArray read_npy(const std::string& path);

// The same for the bytes of a file; `name` is what errors call it.
NpyArray parse_npy(std::span<const std::byte> file, const std::string& name);

// The bytes of a file of version 1.0.
std::vector<std::byte> format_npy(const NpyArray& array);

// Throws Error(kSystem) where the file cannot be written.
void write_npy(const std::string& path, const NpyArray& array);

}  // namespace tokenyard::cli
