// What shows that a frame comes from the rank that proved itself, and in its turn.
#pragma once

#include <cstdint>

#include "exchange/bytes.hpp"
#include "exchange/crypto.hpp"

namespace tokenyard {

// One direction of one connection. The seal is an HMAC of the frame's number and its digest: a frame that was changed, left
// out, repeated or moved does not match. The digest alone depends on the frame's length, so a frame for many costs one.
class Seal {
 public:
  explicit Seal(Key key) : key_(std::move(key)) {}

  Mac next(const Digest& frame) {
    Writer writer(sizeof(num_frames_) + frame.size());
    writer.put(num_frames_++);
    writer.put_bytes(frame);
    return hmac(key_.bytes(), writer.take());
  }

 private:
  Key key_;
  std::uint64_t num_frames_ = 0;
};

}  // namespace tokenyard
