#include "tests/property/strided_matrix.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace tokenyard::test {

StridedMatrix::StridedMatrix(Residence* residence, RandomBits* random, Rows rows, DataType dtype, std::int64_t num_rows,
                             std::int64_t num_columns) {
  enum class Arrangement { kPacked, kApart, kUpsideDown, kByColumns, kSparse, kMirrored };
  auto arrangement = random->pick({Arrangement::kPacked, Arrangement::kPacked, Arrangement::kApart, Arrangement::kUpsideDown});
  if (rows == Rows::kAny) {
    arrangement = random->pick({Arrangement::kPacked, Arrangement::kApart, Arrangement::kUpsideDown, Arrangement::kByColumns,
                                Arrangement::kByColumns, Arrangement::kSparse, Arrangement::kMirrored});
  }
  std::int64_t row_stride = num_columns;
  std::int64_t column_stride = 1;
  std::int64_t first = random->from(0, 3);  // index of element [0, 0]
  switch (arrangement) {
    case Arrangement::kPacked: break;
    case Arrangement::kApart: row_stride += random->from(1, 9); break;
    case Arrangement::kUpsideDown:
      row_stride = -(num_columns + random->from(0, 3));
      first -= row_stride * (num_rows - 1);
      break;
    case Arrangement::kByColumns:
      row_stride = 1;
      column_stride = num_rows + random->from(0, 3);
      break;
    case Arrangement::kSparse:
      column_stride = 2;
      row_stride = 2 * num_columns + random->from(0, 3);
      break;
    case Arrangement::kMirrored:
      column_stride = -1;
      first += num_columns - 1;
      break;
  }
  if (num_rows == 0 || num_columns == 0) {
    static std::byte nowhere;
    view_ = TensorView(random->one_in(2) ? nullptr : &nowhere, dtype, {num_rows, num_columns}, {row_stride, column_stride});
    return;
  }
  // Strides of both signs never make elements overlap here, so the last one in memory is in a corner.
  std::int64_t last = first;
  for (const std::int64_t row : {std::int64_t{0}, num_rows - 1}) {
    for (const std::int64_t column : {std::int64_t{0}, num_columns - 1}) {
      last = std::max(last, first + row * row_stride + column * column_stride);
    }
  }
  const auto element_bytes = static_cast<std::int64_t>(size_of(dtype));
  memory_ = residence->allocate((last + 1 + random->from(0, 3)) * element_bytes);
  std::fill_n(memory_->bytes(), memory_->num_bytes(), kPoison);
  view_ = TensorView(memory_->bytes() + first * element_bytes, dtype, {num_rows, num_columns}, {row_stride, column_stride});
}

void StridedMatrix::take_back() {
  if (memory_ != nullptr) memory_->take_back();
}

void StridedMatrix::set_row(std::int64_t row, const std::byte* elements) {
  const std::size_t element_bytes = size_of(view_.dtype);
  if (view_.strides[1] == 1) {
    std::memcpy(view_.at(row), elements, view_.shape[1] * element_bytes);
    return;
  }
  for (std::int64_t i = 0; i < view_.shape[1]; ++i) std::memcpy(view_.at(row, i), elements + i * element_bytes, element_bytes);
}

void StridedMatrix::get_row(std::int64_t row, std::byte* elements) const {
  const std::size_t element_bytes = size_of(view_.dtype);
  for (std::int64_t i = 0; i < view_.shape[1]; ++i) std::memcpy(elements + i * element_bytes, view_.at(row, i), element_bytes);
}

bool StridedMatrix::erase() {
  const std::vector<std::byte> poison(view_.shape[1] * size_of(view_.dtype), kPoison);
  for (std::int64_t row = 0; row < view_.shape[0]; ++row) set_row(row, poison.data());
  if (memory_ == nullptr) return true;
  const std::byte* end = memory_->bytes() + memory_->num_bytes();
  return std::all_of<const std::byte*>(memory_->bytes(), end, [](std::byte byte) { return byte == kPoison; });
}

}  // namespace tokenyard::test
