#include "tests/software_gpu/bulk_copies.hpp"

#include <bit>
#include <cstring>

namespace software_gpu {
namespace {

void change(std::uint64_t* barrier, auto change_fields) {
  auto fields = std::bit_cast<ByteBarrier>(*barrier);
  change_fields(fields);
  if (fields.num_arrivals_left == 0 && fields.num_bytes_left == 0) {
    fields.phase ^= 1U;
    fields.num_arrivals_left = fields.num_arrivals;
  }
  *barrier = std::bit_cast<std::uint64_t>(fields);
}

void bring(const Copy& copy) {
  std::memcpy(copy.to, copy.from, copy.num_bytes);
  if (copy.barrier != nullptr) {
    change(copy.barrier, [&](ByteBarrier& fields) { fields.num_bytes_left -= copy.num_bytes; });
  }
}

void read(Store& store) {
  if (store.is_read) return;
  store.bytes.assign(store.from, store.from + store.num_bytes);
  store.is_read = true;
}

void write(Store& store) {
  read(store);
  std::memcpy(store.to, store.bytes.data(), store.num_bytes);
}

}  // namespace

void init(std::uint64_t* barrier, std::uint32_t num_arrivals) {
  ByteBarrier fields{};
  fields.num_arrivals = static_cast<std::uint8_t>(num_arrivals);
  fields.num_arrivals_left = fields.num_arrivals;
  *barrier = std::bit_cast<std::uint64_t>(fields);
}

void arrive(std::uint64_t* barrier, std::uint32_t num_expected_bytes) {
  change(barrier, [&](ByteBarrier& fields) {
    fields.num_bytes_left += num_expected_bytes;
    --fields.num_arrivals_left;
  });
}

bool is_past(const std::uint64_t* barrier, std::uint32_t parity) {
  return std::bit_cast<ByteBarrier>(*barrier).phase != (parity & 1U);
}

bool advance_copies(Block& block, bool all) {
  const auto comes = [&] { return all || draw_of(block, 1) == 0; };
  bool has_happened = false;
  std::erase_if(block.bulk_loads, [&](const Copy& load) {
    if (!comes()) return false;
    bring(load);
    return has_happened = true;
  });
  for (Thread* thread : block.storing) {
    for (std::vector<Store>& group : thread->on_the_way->store_groups) {
      std::erase_if(group, [&](Store& store) {
        if (!comes()) return false;
        has_happened = true;
        if (!store.is_read) {
          read(store);
          return false;
        }
        write(store);
        return true;
      });
    }
  }
  return has_happened;
}

void await_stores(std::size_t num_pending, bool written) {
  auto& groups = on_the_way().store_groups;
  for (std::size_t i = 0; i + num_pending + 1 < groups.size(); ++i) {
    for (Store& store : groups[i]) written ? write(store) : read(store);
    if (written) groups[i].clear();
  }
  // Groups that have been written in the order of the waits need not be kept.
  while (groups.size() > 1 && groups.front().empty()) groups.pop_front();
}

void await_loads(std::size_t num_pending) {
  auto& groups = on_the_way().load_groups;
  while (groups.size() > num_pending + 1) {
    for (const Copy& load : groups.front()) bring(load);
    groups.pop_front();
  }
}

void finish_asynchronous(Thread& thread) {
  if (thread.on_the_way == nullptr) return;
  for (std::vector<Store>& group : thread.on_the_way->store_groups) {
    for (Store& store : group) {
      if (!store.is_read) die("a thread ends while its shared memory is being stored");
      write(store);
    }
    group.clear();
  }
  for (const std::vector<Copy>& group : thread.on_the_way->load_groups) {
    if (!group.empty()) die("a thread ends while something is being loaded to its shared memory");
  }
}

}  // namespace software_gpu
