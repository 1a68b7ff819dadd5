// Streams by which one call after the other has rows carried by copy engines: one for the copies, and one for words that are
// written between them. In the stream of the copies itself such a word holds the next one up for some 3 us, an event does not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "engine/cuda/stream_order.hpp"
#include "tokenyard/execution.hpp"

namespace tokenyard {

class CopyStreams {
 public:
  // On the current device. With `writes_words` mark() and write_word() can be used.
  explicit CopyStreams(bool writes_words);

  // Where all ends that was asked for before a join().
  Stream stream() const noexcept { return copies_.get(); }

  // Later copies come behind what `stream` has been asked for.
  void follow(Stream stream);
  // Later copies come when `*word` of the device's memory has become `number`, or more.
  void await_word(const std::uint64_t* word, std::uint64_t number);
  // Between memory of this GPU and of itself or a peer.
  void copy(std::byte* to, const std::byte* from, std::size_t num_bytes);
  // Words may be a peer's, and become visible to the system behind what stands before them. Those that write_word() writes come
  // one behind the other, behind the copies before the last mark(), and hold no copies up; that of end() comes behind all
  // copies.
  void mark();
  void write_word(std::uint64_t* word, std::uint64_t number);
  void end(std::uint64_t* word, std::uint64_t number);
  void join() noexcept;

 private:
  // What is under way in a stream goes on when it is destroyed.
  struct Destroy {
    void operator()(Stream stream) const noexcept;
    void operator()(Event event) const noexcept;
  };
  using OwnedStream = std::unique_ptr<CUstream_st, Destroy>;

  void hand_over(Stream from, Stream to);

  OwnedStream copies_;
  OwnedStream words_;                           // or none
  std::unique_ptr<CUevent_st, Destroy> event_;  // recorded and awaited at once
};

// All that a call asks of such streams, also where an exception breaks it off. `order` is that of the streams' calls.
class CopySection {
 public:
  CopySection(int device, CopyStreams* streams, std::shared_ptr<StreamOrder> order)
      : streams_(streams), section_(device, streams->stream()) {
    section_.enter(std::move(order));
  }
  ~CopySection() { streams_->join(); }
  CopySection(const CopySection&) = delete;
  CopySection& operator=(const CopySection&) = delete;

 private:
  CopyStreams* streams_;
  StreamSection section_;  // ends behind the join
};

}  // namespace tokenyard
