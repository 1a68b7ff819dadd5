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

// What is only loaded may be const; atomic_ref does not know that.
std::atomic_ref<std::uint64_t> atomic(const std::uint64_t* word) { return std::atomic_ref(*const_cast<std::uint64_t*>(word)); }

void check_memory(const void* memory, const char* name) {
  if (memory == nullptr) fail_argument("the {} is a null pointer", name);
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

std::uint64_t* Window::Impl::word(int peer, std::size_t offset) const {
  if (offset % sizeof(std::uint64_t) != 0) fail_argument("offset {} of a word is not a multiple of 8", offset);
  return reinterpret_cast<std::uint64_t*>(at(peer, offset, sizeof(std::uint64_t)));
}

std::uint64_t Window::Impl::load(const std::uint64_t* word) const {
  if (device_verbs_ != nullptr) return device_verbs_->load(word);
  return atomic(word).load(std::memory_order_acquire);
}

DeviceVerbs& Window::Impl::on_device() const {
  if (device_verbs_ == nullptr) {
    fail(ErrorCode::kUnsupported,
         "this window lies in host memory, which streams and kernels do not reach: set GroupOptions::device");
  }
  return *device_verbs_;
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
  check_memory(source, "source of a put");
  if (impl_->device_verbs_ != nullptr) return impl_->device_verbs_->copy(target, source, num_bytes);
  std::memcpy(target, source, num_bytes);
}

void Window::get(int peer, std::size_t offset, void* destination, std::size_t num_bytes) const {
  const std::byte* origin = impl_->at(peer, offset, num_bytes);
  if (num_bytes == 0) return;
  check_memory(destination, "destination of a get");
  if (impl_->device_verbs_ != nullptr) return impl_->device_verbs_->copy(destination, origin, num_bytes);
  std::memcpy(destination, origin, num_bytes);
}

void Window::signal(int peer, std::size_t offset, std::uint64_t value) const {
  delay_point();
  std::uint64_t* const word = impl_->word(peer, offset);
  if (impl_->device_verbs_ != nullptr) return impl_->device_verbs_->store(word, value);
  atomic(word).store(value, std::memory_order_release);
}

std::uint64_t Window::atomic_add(int peer, std::size_t offset, std::uint64_t value) const {
  delay_point();
  std::uint64_t* const word = impl_->word(peer, offset);
  if (impl_->device_verbs_ != nullptr) return impl_->device_verbs_->add(word, value);
  return atomic(word).fetch_add(value, std::memory_order_acq_rel);
}

std::uint64_t Window::load(std::size_t offset) const { return impl_->load(impl_->word(rank(), offset)); }

void Window::put(int peer, std::size_t offset, const void* source, std::size_t num_bytes, Stream stream) const {
  DeviceVerbs& verbs = impl_->on_device();
  std::byte* target = impl_->at(peer, offset, num_bytes);
  if (num_bytes == 0) return;
  check_memory(source, "source of a put");
  verbs.copy(target, source, num_bytes, stream);
}

void Window::signal(int peer, std::size_t offset, std::uint64_t value, Stream stream) const {
  impl_->on_device().store(impl_->word(peer, offset), value, stream);
}

void Window::wait(std::size_t offset, Compare compare, std::uint64_t value, Stream stream,
                  std::optional<std::chrono::milliseconds> timeout) const {
  DeviceVerbs& verbs = impl_->on_device();
  impl_->word(rank(), offset);  // checks it
  verbs.wait(offset, compare, value, Deadline(timeout.value_or(impl_->peers_->timeout())).nanoseconds(), stream);
}

const DeviceWindow& Window::device_window() const { return impl_->on_device().window(); }

std::uint64_t Window::wait(std::size_t offset, Compare compare, std::uint64_t value,
                           std::optional<std::chrono::milliseconds> timeout) const {
  delay_point();
  const std::uint64_t* const word = impl_->word(rank(), offset);
  const Deadline deadline(timeout.value_or(impl_->peers_->timeout()));
  Backoff backoff(impl_->peers_->wait_style());
  for (std::uint64_t num_checks = 0;;) {
    const std::uint64_t seen = impl_->load(word);
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
