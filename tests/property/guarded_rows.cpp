#include "tests/property/guarded_rows.hpp"

#include <algorithm>

#include "tests/property/strided_matrix.hpp"

namespace tokenyard::test {

GuardedRows::GuardedRows(Residence* residence, std::int64_t num_rows, std::size_t row_bytes, std::size_t lead_bytes)
    : num_bytes_(num_rows * row_bytes),
      memory_(residence->allocate(num_bytes_ + 2 * kGuardBytes)),
      rows_(memory_->bytes() + 64 + lead_bytes) {
  std::fill(memory_->bytes(), rows_, kPoison);
  std::fill(rows_ + num_bytes_, memory_->bytes() + memory_->num_bytes(), kPoison);
}

bool GuardedRows::guards_are_untouched() const {
  memory_->take_back();
  const auto is_poison = [](std::byte byte) { return byte == kPoison; };
  const std::byte* begin = memory_->bytes();
  return std::all_of<const std::byte*>(begin, rows_, is_poison) &&
         std::all_of<const std::byte*>(rows_ + num_bytes_, begin + memory_->num_bytes(), is_poison);
}

}  // namespace tokenyard::test
