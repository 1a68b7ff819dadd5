#include "tests/fuzz/hostile_messages.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <span>
#include <utility>

#include "base/file_descriptor.hpp"
#include "tests/exchange/tcp_proxy.hpp"
#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {
namespace {

const Key kWrongSecret = key_of_secret("not the secret of this job");

Bytes joined(Bytes first, const Bytes& second) {
  first.insert(first.end(), second.begin(), second.end());
  return first;
}

Nonce nonce_from(RandomBits& random) { return *decode_32_bytes(random_bytes(random, sizeof(Nonce))); }

Bytes frame_of(FrameType type, std::span<const std::byte> body) { return make_frame(type, 0, body)->bytes(); }

Bytes hello_of_rank(int num_ranks, std::uint32_t rank, const Nonce& nonce) {
  return frame_of(FrameType::kHello,
                  encode_hello({.num_ranks = static_cast<std::uint32_t>(num_ranks), .rank = rank, .nonce = nonce}));
}

// A connection that never waits long, and that leaves the port behind at once.
class Visit {
 public:
  Visit(std::uint16_t port, Tally& tally) : socket_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), tally_(&tally) {
    const linger at_once{.l_onoff = 1, .l_linger = 0};
    setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    const timeval limit{.tv_sec = 0, .tv_usec = 200'000};
    setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    is_connected_ = connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    if (is_connected_) ++tally.num_connections;
  }

  bool is_connected() const { return is_connected_; }

  void say(const Bytes& bytes) {
    ++tally_->num_messages;
    send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  }

  // The challenge, if it comes.
  std::optional<Nonce> hear_challenge() {
    Bytes frame(kFrameHeaderBytes + sizeof(Nonce));
    if (recv(socket_.get(), frame.data(), frame.size(), MSG_WAITALL) != static_cast<ssize_t>(frame.size())) return std::nullopt;
    return decode_32_bytes(std::span(frame).subspan(kFrameHeaderBytes));
  }

  // Ends in order instead of at once: what was sent is read before the end is seen.
  void end_in_order() { shutdown(socket_.get(), SHUT_WR); }

 private:
  FileDescriptor socket_;
  Tally* tally_;
  bool is_connected_ = false;
};

struct Situation {
  RandomBits& random;
  std::uint16_t port;
  int num_ranks;
  const Recording& recording;
  Tally& tally;
};

void with_garbage(Situation& at, Visit& visit) {
  visit.say(random_bytes(at.random, static_cast<std::size_t>(at.random.any_magnitude(1, 8192))));
}

void with_random_frames(Situation& at, Visit& visit) {
  for (auto i = at.random.from(1, 4); i > 0; --i) visit.say(random_frame(at.random));
}

void with_truncated_hello(Situation& at, Visit& visit) {
  Bytes hello = hostile_hello(at.random, at.num_ranks);
  hello.resize(static_cast<std::size_t>(at.random.from(1, static_cast<std::int64_t>(hello.size()) - 1)));
  visit.say(hello);
}

void with_oversized_hello(Situation& at, Visit& visit) {
  const std::uint64_t num_bytes = at.random.pick<std::uint64_t>({4097, 1 << 20, 1ull << 40, ~0ull, at.random.next()});
  visit.say(encode_header({.type = FrameType::kHello, .num_body_bytes = num_bytes}));
  visit.say(random_bytes(at.random, static_cast<std::size_t>(at.random.any_magnitude(1, 4096))));
}

void with_mutated_hello(Situation& at, Visit& visit) { visit.say(mutated(at.random, hostile_hello(at.random, at.num_ranks))); }

void with_wrong_secret(Situation& at, Visit& visit) {
  const Hello hello{.num_ranks = static_cast<std::uint32_t>(at.num_ranks),
                    .rank = static_cast<std::uint32_t>(at.random.from(0, at.num_ranks)),
                    .nonce = nonce_from(at.random)};
  visit.say(frame_of(FrameType::kHello, encode_hello(hello)));
  if (const std::optional<Nonce> challenge = visit.hear_challenge()) {
    visit.say(frame_of(FrameType::kAnswer, Handshake(kWrongSecret, hello, *challenge).proof_of_rank()));
  }
}

void with_random_answers(Situation& at, Visit& visit) {
  visit.say(hostile_hello(at.random, at.num_ranks));
  if (at.random.one_in(2)) visit.hear_challenge();
  const Bytes proof = random_bytes(at.random, at.random.pick<std::size_t>({0, 31, 32, 32, 33, 4096}));
  visit.say(frame_of(at.random.one_in(4) ? FrameType::kContribution : FrameType::kAnswer, proof));
  visit.say(random_frame(at.random));
}

void with_recording(Situation& at, Visit& visit) {
  visit.say(at.recording.hello);
  if (at.random.one_in(2)) visit.hear_challenge();
  visit.say(at.recording.answer);
  for (const Bytes& frame : at.recording.later) visit.say(frame);
}

void with_mutated_recording(Situation& at, Visit& visit) {
  visit.say(at.recording.hello);
  visit.hear_challenge();
  visit.say(mutated(at.random, at.random.one_in(2) ? at.recording.answer : at.recording.proof_of_rank_zero));
}

void with_reflection(Situation& at, Visit& visit) {
  Visit other(at.port, at.tally);
  if (!other.is_connected()) return;
  visit.say(hello_of_rank(at.num_ranks, 2, nonce_from(at.random)));
  const std::optional<Nonce> asked = visit.hear_challenge();
  if (!asked) return;
  other.say(hello_of_rank(at.num_ranks, 2, *asked));
  const std::optional<Nonce> echoed = other.hear_challenge();
  if (!echoed) return;
  visit.say(frame_of(FrameType::kAnswer, *echoed));
  visit.say(joined(frame_of(FrameType::kAccepted, *asked), at.recording.proof_of_rank_zero));
  other.say(frame_of(FrameType::kAnswer, *asked));
}

void with_silence(Situation& at, Visit& visit) {
  if (at.random.one_in(200)) visit.hear_challenge();  // stays for a while
}

void with_flood(Situation& at, Visit&) {
  std::vector<Visit> crowd;
  for (auto i = at.random.from(2, 100); i > 0; --i) {
    crowd.emplace_back(at.port, at.tally);
    if (!crowd.back().is_connected()) return;
    if (at.random.one_in(3)) crowd.back().say(hostile_hello(at.random, at.num_ranks));
  }
}

void with_strangers_of_other_kinds(Situation& at, Visit& visit) {
  const char* words[] = {"GET / HTTP/1.1\r\nHost: rank-zero\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "\x16\x03\x01\x02", "TOKENYRD",
                         "\n"};
  visit.say(to_bytes(words[at.random.next() % std::size(words)]));
}

using Conversation = void (*)(Situation&, Visit&);
constexpr std::array<Conversation, 13> kConversations{with_garbage,
                                                      with_random_frames,
                                                      with_truncated_hello,
                                                      with_oversized_hello,
                                                      with_mutated_hello,
                                                      with_wrong_secret,
                                                      with_random_answers,
                                                      with_recording,
                                                      with_mutated_recording,
                                                      with_reflection,
                                                      with_silence,
                                                      with_flood,
                                                      with_strangers_of_other_kinds};

}  // namespace

Recording record_honest_rank(int num_ranks, const char* secret) {
  Recording recording;
  const TestListener listener = listen_on_loopback();
  TcpProxy proxy(listener.port, [&](bool is_to_rank_zero, Bytes frame) {
    switch (type_of(frame)) {
      case FrameType::kHello: recording.hello = frame; break;
      case FrameType::kAnswer: recording.answer = frame; break;
      case FrameType::kAccepted: recording.proof_of_rank_zero = frame; break;
      default:
        if (is_to_rank_zero) recording.later.push_back(frame);
    }
    return frame;
  });
  run_ranks(num_ranks, [&](int rank) {
    TcpRendezvous rendezvous = rendezvous_at(listener, rank, num_ranks);
    rendezvous.secret = secret;
    if (rank == num_ranks - 1) rendezvous.port = proxy.port();
    const auto exchange = make_tcp_exchange(rendezvous);
    for (int round = 0; round < 3; ++round) exchange->all_gather(to_bytes("words of an honest rank"), kAmple);
  });
  return recording;
}

Bytes random_bytes(RandomBits& random, std::size_t num_bytes) {
  Bytes bytes(num_bytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random.next());
  return bytes;
}

Bytes mutated(RandomBits& random, Bytes bytes) {
  const auto position = [&] { return static_cast<std::size_t>(random.next() % std::max<std::size_t>(bytes.size(), 1)); };
  switch (random.from(0, 3)) {
    case 0: bytes.resize(position()); break;
    case 1: bytes = joined(bytes, random_bytes(random, static_cast<std::size_t>(random.from(1, 64)))); break;
    case 2: bytes.insert(bytes.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(position())); break;
    default: break;
  }
  if (bytes.empty()) return bytes;
  for (auto i = random.from(1, 6); i > 0; --i) bytes[position()] ^= static_cast<std::byte>(1 << random.from(0, 7));
  return bytes;
}

Bytes random_frame(RandomBits& random) {
  const Bytes body =
      random_bytes(random, static_cast<std::size_t>(random.one_in(2) ? random.from(0, 80) : random.from(0, 4096)));
  FrameHeader header;
  header.version = random.pick<std::uint32_t>({kWireVersion, kWireVersion, 1, 3, static_cast<std::uint32_t>(random.next())});
  header.type = static_cast<FrameType>(random.one_in(8) ? random.next() : static_cast<std::uint64_t>(random.from(0, 9)));
  header.round = random.pick<std::uint64_t>({0, 0, 1, 2, random.next()});
  header.num_body_bytes = random.one_in(4) ? random.next() >> random.from(0, 63) : body.size();
  return joined(encode_header(header), body);
}

Bytes hostile_hello(RandomBits& random, int num_ranks) {
  if (random.one_in(4)) {
    const Hello hello{.num_ranks = static_cast<std::uint32_t>(random.next()),
                      .rank = static_cast<std::uint32_t>(random.next())};
    return frame_of(FrameType::kHello, encode_hello(hello));
  }
  const int claimed_num_ranks = random.one_in(8) ? num_ranks + 1 : num_ranks;
  return hello_of_rank(claimed_num_ranks, static_cast<std::uint32_t>(random.from(0, num_ranks)), nonce_from(random));
}

bool converse(RandomBits& random, std::uint16_t port, int num_ranks, const Recording& recording, Tally& tally) {
  Visit visit(port, tally);
  if (!visit.is_connected()) return false;
  Situation at{random, port, num_ranks, recording, tally};
  kConversations[random.next() % kConversations.size()](at, visit);
  if (random.one_in(2)) visit.end_in_order();
  return true;
}

}  // namespace tokenyard::test
