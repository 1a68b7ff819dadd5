#include "tests/property/guarded_rows.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <new>

#include "tests/property/strided_matrix.hpp"

namespace tokenyard::test {

GuardedRows::GuardedRows(std::int64_t num_rows, std::size_t row_bytes, std::size_t lead_bytes)
    : row_bytes_(row_bytes), num_bytes_(num_rows * row_bytes), num_mapped_bytes_(num_bytes_ + 2 * kGuardBytes) {
  void* memory = mmap(nullptr, num_mapped_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(memory);
  rows_ = memory_ + 64 + lead_bytes;
  std::fill(memory_, rows_, kPoison);
  std::fill(rows_ + num_bytes_, memory_ + num_mapped_bytes_, kPoison);
}

GuardedRows::~GuardedRows() { munmap(memory_, num_mapped_bytes_); }

bool GuardedRows::guards_are_untouched() const {
  const auto is_poison = [](std::byte byte) { return byte == kPoison; };
  return std::all_of(memory_, rows_, is_poison) && std::all_of(rows_ + num_bytes_, memory_ + num_mapped_bytes_, is_poison);
}

}  // namespace tokenyard::test
