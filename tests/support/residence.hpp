// Where a rank of a test lives: what memory its tensors take, how the test, which runs on the host, fills and reads them, and
// how its calls run. Tests that ask a Residence for these things run unchanged with ranks in host memory and on GPUs.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>

#include "tokenyard/execution.hpp"
#include "tokenyard/group.hpp"
#include "tokenyard/tensor_view.hpp"

namespace tokenyard::test {

// Memory for a tensor that is given to calls. A call that uses it must have ended before it goes.
class TensorMemory {
 public:
  virtual ~TensorMemory() = default;
  TensorMemory(const TensorMemory&) = delete;
  TensorMemory& operator=(const TensorMemory&) = delete;

  // What the test fills and reads. Unspecified at first.
  std::byte* bytes() const noexcept { return bytes_; }
  std::size_t num_bytes() const noexcept { return num_bytes_; }

  // A view of `bytes` as calls take it, which find there what the host has written by now.
  template <class Void>
  BasicTensorView<Void> for_call(BasicTensorView<Void> view) {
    hand_over();
    view.data = address_ + (static_cast<const std::byte*>(view.data) - bytes_);
    return view;
  }

  // What a call has written, once it has ended, stands at `bytes` when this returns.
  virtual void take_back() {}

 protected:
  TensorMemory(std::byte* bytes, std::byte* address, std::size_t num_bytes)
      : bytes_(bytes), address_(address), num_bytes_(num_bytes) {}
  virtual void hand_over() {}

  std::byte* bytes_;
  std::byte* address_;  // where calls find it
  std::size_t num_bytes_;
};

// A tensor of a call's result, or its copy, where the test can read and write it.
template <class Void>
struct OnHost {
  BasicTensorView<Void> view;
  std::unique_ptr<std::byte[]> copy{};  // null: the tensor itself
};

// One thread at a time. Belongs to one rank.
class Residence {
 public:
  virtual ~Residence() = default;

  // In the rank's thread, before anything else.
  virtual void enter() {}

  // What a group of this rank has to be told.
  virtual void choose(GroupOptions*) {}

  // Whether calls are enqueued rather than done when they return. On such ranks nobody on the host knows sizes under kDrop.
  virtual bool is_stream_ordered() const noexcept { return false; }

  virtual std::unique_ptr<TensorMemory> allocate(std::size_t num_bytes) = 0;

  // How the next call runs (where the plan allows it, maybe by copy engines); in halves, with other calls in between, or as a
  // whole. To be followed by call_is_made() when the call, or its second half, has returned.
  virtual Execution next_execution(bool /*is_split*/, bool /*may_use_engines*/ = false) { return {}; }
  virtual void call_is_made() {}

  // Waits until everything that calls have enqueued is done.
  virtual void finish() {}

  // A tensor that a call, which has ended, has returned.
  template <class Void>
  OnHost<Void> fetch(const BasicTensorView<Void>& view) {
    const Span span = span_of(view);
    OnHost<Void> result{view};
    if (span.num_bytes == 0 || host_reaches(span.first)) return result;
    result.copy = std::make_unique_for_overwrite<std::byte[]>(span.num_bytes);
    read(result.copy.get(), span.first, span.num_bytes);
    result.view.data = result.copy.get() + (static_cast<const std::byte*>(view.data) - span.first);
    return result;
  }

  // The same for a test that overwrites it: without what stands there now where that takes a copy.
  OnHost<void> blank(const TensorView& view) {
    const Span span = span_of(view);
    OnHost<void> result{view};
    if (span.num_bytes == 0 || host_reaches(span.first)) return result;
    result.copy = std::make_unique_for_overwrite<std::byte[]>(span.num_bytes);
    std::fill_n(result.copy.get(), span.num_bytes, std::byte{0xff});
    result.view.data = result.copy.get() + (static_cast<const std::byte*>(view.data) - span.first);
    return result;
  }

  // Writes a tensor that came from fetch() or blank() back to `view`, all of it.
  void store(const OnHost<void>& tensor, const TensorView& view) {
    const Span span = span_of(view);
    if (tensor.copy != nullptr) write(const_cast<std::byte*>(span.first), tensor.copy.get(), span.num_bytes);
  }

 protected:
  virtual bool host_reaches(const std::byte*) const { return true; }
  virtual void read(std::byte* /*to*/, const std::byte* /*from*/, std::size_t /*num_bytes*/) {}
  virtual void write(std::byte* /*to*/, const std::byte* /*from*/, std::size_t /*num_bytes*/) {}

 private:
  struct Span {
    const std::byte* first = nullptr;
    std::size_t num_bytes = 0;
  };

  // From the first element in memory to the last.
  static Span span_of(const ConstTensorView& view) {
    if (view.data == nullptr || view.num_elements() == 0) return {};
    std::int64_t first = 0;
    std::int64_t last = 0;
    for (int dim = 0; dim < view.num_dims; ++dim) {
      const std::int64_t reach = (view.shape[dim] - 1) * view.strides[dim];
      (reach < 0 ? first : last) += reach;
    }
    const auto element_bytes = static_cast<std::int64_t>(size_of(view.dtype));
    return {static_cast<const std::byte*>(view.data) + first * element_bytes,
            static_cast<std::size_t>((last - first + 1) * element_bytes)};
  }
};

// Of a rank whose windows are in host memory.
class HostResidence : public Residence {
 public:
  std::unique_ptr<TensorMemory> allocate(std::size_t num_bytes) override;
};

}  // namespace tokenyard::test
