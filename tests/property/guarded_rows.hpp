// Dense rows in memory of their own, with guards before and behind. Only what is poisoned or written takes up memory, so the
// rows may be many.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tokenyard::test {

class GuardedRows {
 public:
  // `lead_bytes`: how far the first row stands behind an aligned address, at most 64.
  GuardedRows(std::int64_t num_rows, std::size_t row_bytes, std::size_t lead_bytes);
  ~GuardedRows();
  GuardedRows(const GuardedRows&) = delete;
  GuardedRows& operator=(const GuardedRows&) = delete;

  std::byte* data() { return rows_; }
  std::byte* row(std::int64_t row_idx) { return rows_ + row_idx * row_bytes_; }
  bool guards_are_untouched() const;

 private:
  static constexpr std::size_t kGuardBytes = 192;

  std::size_t row_bytes_;
  std::size_t num_bytes_;  // of all rows
  std::size_t num_mapped_bytes_;
  std::byte* memory_;
  std::byte* rows_;
};

}  // namespace tokenyard::test
