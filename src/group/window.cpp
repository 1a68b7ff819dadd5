#include "tokenyard/window.hpp"

#include <cstring>

#include "base/backoff.hpp"
#include "base/deadline.hpp"
#include "base/fail.hpp"
#include "base/hooks.hpp"
#include "group/window_impl.hpp"

namespace tokenyard {
namespace {

constexpr std::uint64_t kChecksPerLookAtMembers = 16;  // some ten milliseconds

const char* symbol(Compare compare) {
  switch (compare) {
    case Compare::kEqual: return "==";
    case Compare::kNotEqual: return "!=";
    case Compare::kGreaterEqual: return ">=";
  }
  return "?";
}

bool holds(Compare compare, std::uint64_t word, std::uint64_t value) {
  switch (compare) {
    case Compare::kEqual: return word == value;
    case Compare::kNotEqual: return word != value;
    case Compare::kGreaterEqual: return word >= value;
  }
  return false;
}

}  // namespace

std::byte* Window::Impl::at(int peer, std::size_t offset, std::size_t num_bytes) const {
  if (peer < 0 || peer >= peers_->num_ranks()) {
    fail_argument("rank {} was named and the window has ranks 0 to {}", peer, peers_->num_ranks() - 1);
  }
  if (offset > num_bytes_ || num_bytes > num_bytes_ - offset) {
    fail_argument("{} bytes at offset {} were named and the window has {}", num_bytes, offset, num_bytes_);
  }
  if (regions_[peer] == nullptr) {
    fail(ErrorCode::kUnsupported, "rank {} is in another domain, and this version has no network between domains", peer);
  }
  return regions_[peer]->data() + offset;
}

std::atomic_ref<std::uint64_t> Window::Impl::word(int peer, std::size_t offset) const {
  if (offset % sizeof(std::uint64_t) != 0) fail_argument("offset {} of a word is not a multiple of 8", offset);
  return std::atomic_ref(*reinterpret_cast<std::uint64_t*>(at(peer, offset, sizeof(std::uint64_t))));
}

std::byte* Window::local() const noexcept { return impl_->regions_[rank()]->data(); }
std::size_t Window::num_bytes() const noexcept { return impl_->num_bytes_; }
int Window::rank() const noexcept { return impl_->peers_->rank(); }
int Window::num_ranks() const noexcept { return impl_->peers_->num_ranks(); }

std::byte* Window::mapped(int peer) const noexcept {
  return impl_->peers_->is_member(peer) ? impl_->regions_[peer]->data() : nullptr;
}

void Window::put(int peer, std::size_t offset, const void* source, std::size_t num_bytes) const {
  std::byte* target = impl_->at(peer, offset, num_bytes);
  if (num_bytes == 0) return;
  if (source == nullptr) fail_argument("the source of a put is a null pointer");
  std::memcpy(target, source, num_bytes);
}

void Window::get(int peer, std::size_t offset, void* destination, std::size_t num_bytes) const {
  const std::byte* origin = impl_->at(peer, offset, num_bytes);
  if (num_bytes == 0) return;
  if (destination == nullptr) fail_argument("the destination of a get is a null pointer");
  std::memcpy(destination, origin, num_bytes);
}

void Window::signal(int peer, std::size_t offset, std::uint64_t value) const {
  delay_point();
  impl_->word(peer, offset).store(value, std::memory_order_release);
}

std::uint64_t Window::atomic_add(int peer, std::size_t offset, std::uint64_t value) const {
  delay_point();
  return impl_->word(peer, offset).fetch_add(value, std::memory_order_acq_rel);
}

std::uint64_t Window::load(std::size_t offset) const { return impl_->word(rank(), offset).load(std::memory_order_acquire); }

std::uint64_t Window::wait(std::size_t offset, Compare compare, std::uint64_t value,
                           std::optional<std::chrono::milliseconds> timeout) const {
  delay_point();
  const std::atomic_ref<std::uint64_t> word = impl_->word(rank(), offset);
  const Deadline deadline(timeout.value_or(impl_->peers_->timeout()));
  Backoff backoff(impl_->peers_->wait_style());
  for (std::uint64_t num_checks = 0;;) {
    const std::uint64_t seen = word.load(std::memory_order_acquire);
    if (holds(compare, seen, value)) return seen;
    if (!backoff.pause()) continue;
    impl_->peers_->check();
    if (++num_checks % kChecksPerLookAtMembers == 0) impl_->peers_->check_members(Phase::kWindowWait);
    if (!deadline.passed()) continue;
    throw Error(Failure{ErrorCode::kTimeout, Phase::kWindowWait, -1, rank()},
                fmt::format("rank {} waited {} ms for the word at offset {} of its window to be {} {}; it is {}", rank(),
                            deadline.elapsed().count(), offset, symbol(compare), value, seen));
  }
}

void Window::fence(int peer) const {
  impl_->at(peer, 0, 0);
  quiet();
}

// Mapped memory is coherent, so ordering this thread's accesses is all that is left to do.
void Window::quiet() const {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wtsan"  // the race detector ignores fences; it relies on the signals that follow
  std::atomic_thread_fence(std::memory_order_seq_cst);
#pragma GCC diagnostic pop
}

}  // namespace tokenyard
