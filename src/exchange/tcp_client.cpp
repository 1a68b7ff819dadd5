#include "exchange/tcp_client.hpp"

#include <fmt/core.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "exchange/limits.hpp"
#include "exchange/tcp_limits.hpp"
#include "exchange/tcp_wire.hpp"
#include "exchange/verdict.hpp"

namespace tokenyard {
namespace {

class TcpClient final : public Exchange {
 public:
  TcpClient(Connection connection, int rank, int num_ranks)
      : connection_(std::move(connection)), rank_(rank), num_ranks_(num_ranks) {}

  int rank() const noexcept override { return rank_; }
  int num_ranks() const noexcept override { return num_ranks_; }

  void rendezvous(const Deadline& deadline) { await_result(deadline); }

  std::vector<Bytes> all_gather(std::span<const std::byte> bytes, std::chrono::milliseconds timeout) override {
    check_message(bytes);
    const Deadline deadline = bounded_deadline(timeout);
    throw_if_over(verdict_);
    ++round_;
    connection_.send(make_frame(FrameType::kContribution, round_, bytes));
    return await_result(deadline);
  }

 private:
  // At the deadline rank 0 is asked who is missing. One that does not answer is itself what everyone waits for.
  std::vector<Bytes> await_result(const Deadline& deadline) {
    std::optional<Deadline> grace;
    while (true) {
      connection_.flush();
      if (std::optional<Frame> frame = connection_.receive(max_result_frame_bytes(num_ranks_))) return open(*frame);
      give_up_if_ended();
      if (!grace && deadline.passed()) {
        const auto waited_ms = static_cast<std::uint64_t>(deadline.timeout().count());
        connection_.send(make_frame(FrameType::kExpired, round_, encode_expired(waited_ms)));
        grace.emplace(kGrace);
      }
      if (grace && grace->passed()) {
        give_up(ErrorCode::kTimeout,
                fmt::format("rank {} waited {} ms for rank 0 ({}), which has not called or does not answer", rank_,
                            deadline.timeout().count(), connection_.peer()));
      }
      pollfd entry = connection_.poll_entry();
      poll_for({&entry, 1}, grace ? grace->remaining() : deadline.remaining());
    }
  }

  void give_up_if_ended() {
    const std::string rank_zero = fmt::format("rank 0 ({})", connection_.peer());
    switch (connection_.end()) {
      case Connection::End::kNone: return;
      case Connection::End::kClosed:
        give_up(ErrorCode::kPeerLost, rank_zero + " has left or died: it " + connection_.end_reason());
      case Connection::End::kNoFrames: give_up(ErrorCode::kDisagreement, rank_zero + " " + connection_.end_reason());
    }
  }

  std::vector<Bytes> open(const Frame& frame) {
    if (frame.header.type == FrameType::kFailed) {
      if (std::optional<Verdict> verdict = decode_verdict(frame.body)) {
        verdict_ = std::move(verdict);
        throw_verdict(*verdict_);
      }
    }
    if (frame.header.type == FrameType::kResult && frame.header.round == round_) {
      if (std::optional<std::vector<Bytes>> messages = decode_result(frame.body, num_ranks_)) return std::move(*messages);
    }
    give_up(ErrorCode::kDisagreement,
            fmt::format("rank 0 ({}) sent a message of type {} for round {} that does not fit", connection_.peer(),
                        static_cast<std::uint32_t>(frame.header.type), frame.header.round));
  }

  // For what only this rank knows: rank 0 is told, and tells the others if it still can.
  [[noreturn]] void give_up(ErrorCode code, const std::string& what) {
    const std::string where = round_ == 0 ? "rendezvous" : fmt::format("Exchange, round {}", round_);
    verdict_ = make_verdict(code, 0, rank_, where + ": " + what);
    connection_.send(make_frame(FrameType::kFailed, round_, encode_verdict(*verdict_)));
    throw_verdict(*verdict_);
  }

  Connection connection_;
  int rank_;
  int num_ranks_;
  std::uint64_t round_ = 0;
  std::optional<Verdict> verdict_;
};

}  // namespace

std::shared_ptr<Exchange> make_tcp_client(Connection connection, int rank, int num_ranks, const Deadline& deadline) {
  auto client = std::make_shared<TcpClient>(std::move(connection), rank, num_ranks);
  client->rendezvous(deadline);
  return client;
}

}  // namespace tokenyard
