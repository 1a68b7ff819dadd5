// Dense rows in memory of their own, with guards before and behind. On the host only what is poisoned or written takes up
// memory, so the rows may be many.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tests/support/residence.hpp"

namespace tokenyard::test {

class GuardedRows {
 public:
  // `lead_bytes`: how far the first row stands behind an aligned address, at most 64.
  GuardedRows(Residence* residence, std::int64_t num_rows, std::size_t row_bytes, std::size_t lead_bytes);

  std::byte* data() { return rows_; }

  // A view of the rows for a call, with what they hold now.
  template <class Void>
  BasicTensorView<Void> for_call(const BasicTensorView<Void>& view) {
    return memory_->for_call(view);
  }

  // To be asked when no call writes the rows any more.
  bool guards_are_untouched() const;

 private:
  static constexpr std::size_t kGuardBytes = 192;

  std::size_t num_bytes_;  // of all rows
  std::unique_ptr<TensorMemory> memory_;
  std::byte* rows_;  // the first, on the host
};

}  // namespace tokenyard::test
