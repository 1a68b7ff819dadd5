// An Exchange on top of somebody else's all-gather of equally long blocks.
//
// Each round gathers one block per rank that says who and when, and how long the rank's bytes are; short bytes travel in it.
// If any rank's are longer, a second gather, as wide as the longest, follows. All ranks see the same lengths, so all agree on
// whether it does.
#include <fmt/core.h>

#include <algorithm>
#include <cstdint>
#include <exception>
#include <optional>
#include <utility>

#include "exchange/bytes.hpp"
#include "exchange/limits.hpp"
#include "exchange/verdict.hpp"
#include "tokenyard/exchange.hpp"
#include "tokenyard/version.hpp"

namespace tokenyard {
namespace {

constexpr std::size_t kBlockBytes = 256;
constexpr std::size_t kBlockHeaderBytes = 32;
constexpr std::size_t kMaxInlineBytes = kBlockBytes - kBlockHeaderBytes;

struct BlockHeader {
  std::uint32_t version = kWireVersion;
  std::uint32_t rank = 0;
  std::uint32_t num_ranks = 0;
  std::uint32_t num_bytes = 0;
  std::uint64_t round = 0;
};

Bytes encode_block(const BlockHeader& header, std::span<const std::byte> bytes) {
  Writer writer(kBlockBytes);
  writer.put_bytes(bytes_of(kMagic));
  writer.put(header.version);
  writer.put(header.rank);
  writer.put(header.num_ranks);
  writer.put(header.num_bytes);
  writer.put(header.round);
  if (bytes.size() <= kMaxInlineBytes) writer.put_bytes(bytes);
  return writer.take();
}

std::optional<BlockHeader> decode_block(std::span<const std::byte> block) {
  Reader reader(block);
  if (!reader.take_magic()) return std::nullopt;
  BlockHeader header;
  header.version = reader.take<std::uint32_t>();
  header.rank = reader.take<std::uint32_t>();
  header.num_ranks = reader.take<std::uint32_t>();
  header.num_bytes = reader.take<std::uint32_t>();
  header.round = reader.take<std::uint64_t>();
  return header;
}

class CallbackExchange final : public Exchange {
 public:
  CallbackExchange(int rank, int num_ranks, GatherBlocks gather_blocks)
      : rank_(rank), num_ranks_(num_ranks), gather_blocks_(std::move(gather_blocks)) {}

  int rank() const noexcept override { return rank_; }
  int num_ranks() const noexcept override { return num_ranks_; }

  std::vector<Bytes> all_gather(std::span<const std::byte> bytes, std::chrono::milliseconds timeout) override {
    check_message(bytes);
    const Deadline deadline = bounded_deadline(timeout);
    throw_if_over(verdict_);
    ++round_;
    const BlockHeader mine{.rank = static_cast<std::uint32_t>(rank_),
                           .num_ranks = static_cast<std::uint32_t>(num_ranks_),
                           .num_bytes = static_cast<std::uint32_t>(bytes.size()),
                           .round = round_};
    const Bytes blocks = gather(encode_block(mine, bytes), deadline);
    std::vector<std::size_t> lengths;
    for (int rank = 0; rank < num_ranks_; ++rank) lengths.push_back(checked_length(block_of(blocks, rank), rank));
    const std::size_t longest = *std::max_element(lengths.begin(), lengths.end());
    if (longest <= kMaxInlineBytes) return cut(blocks, kBlockHeaderBytes, lengths);
    Bytes padded(bytes.begin(), bytes.end());
    padded.resize(longest);
    return cut(gather(padded, deadline), 0, lengths);
  }

 private:
  // What the function gives back has the right length because it fills a buffer of ours; who filled it is looked at.
  Bytes gather(const Bytes& block, const Deadline& deadline) {
    Bytes blocks(block.size() * static_cast<std::size_t>(num_ranks_));
    try {
      gather_blocks_(block, blocks, deadline.remaining());
    } catch (const Error& error) {
      Failure failure = error.failure();
      failure.code = error.code();
      failure.phase = Phase::kRendezvous;
      if (failure.reporter < 0) failure.reporter = rank_;
      give_up(failure, fmt::format("the function that gathers blocks failed: {}", error.what()));
    } catch (const std::exception& error) {
      give_up({ErrorCode::kSystem, Phase::kRendezvous, -1, rank_},
              fmt::format("the function that gathers blocks failed: {}", error.what()));
    } catch (...) {
      give_up({ErrorCode::kSystem, Phase::kRendezvous, -1, rank_}, "the function that gathers blocks threw something");
    }
    if (!std::ranges::equal(block_of(blocks, rank_), block)) {
      disagree(rank_, fmt::format("the function that gathers blocks did not put this rank's own block at place {} of {}", rank_,
                                  num_ranks_));
    }
    return blocks;
  }

  std::span<const std::byte> block_of(std::span<const std::byte> blocks, int rank) const {
    const std::size_t block_bytes = blocks.size() / static_cast<std::size_t>(num_ranks_);
    return blocks.subspan(static_cast<std::size_t>(rank) * block_bytes, block_bytes);
  }

  std::size_t checked_length(std::span<const std::byte> block, int rank) {
    const std::optional<BlockHeader> header = decode_block(block);
    if (!header) disagree(rank, fmt::format("what was gathered at place {} is no block of Tokenyard", rank));
    if (header->version != kWireVersion) {
      disagree(rank, fmt::format("rank {} speaks version {} and this rank version {}: install the same Tokenyard for all ranks",
                                 rank, header->version, kWireVersion));
    }
    if (header->num_ranks != static_cast<std::uint32_t>(num_ranks_)) {
      disagree(rank, fmt::format("rank {} was made for {} ranks and this rank for {}", rank, header->num_ranks, num_ranks_));
    }
    if (header->rank != static_cast<std::uint32_t>(rank)) {
      disagree(rank,
               fmt::format("the block at place {} is that of rank {}: blocks must stand in rank order", rank, header->rank));
    }
    if (header->round != round_) {
      disagree(rank,
               fmt::format("rank {} is in round {}: all ranks must make the same calls, and on no other Exchange with the "
                           "same function in between",
                           rank, header->round));
    }
    if (header->num_bytes > kMaxMessageBytes) {
      disagree(rank, fmt::format("rank {} announces {} bytes where at most {} are allowed", rank, header->num_bytes,
                                 kMaxMessageBytes));
    }
    return header->num_bytes;
  }

  std::vector<Bytes> cut(const Bytes& blocks, std::size_t begin, const std::vector<std::size_t>& lengths) const {
    std::vector<Bytes> messages;
    for (int rank = 0; rank < num_ranks_; ++rank) {
      const std::span<const std::byte> message = block_of(blocks, rank).subspan(begin, lengths[rank]);
      messages.emplace_back(message.begin(), message.end());
    }
    return messages;
  }

  [[noreturn]] void disagree(int culprit, const std::string& what) {
    give_up({ErrorCode::kDisagreement, Phase::kRendezvous, culprit, rank_}, what);
  }

  // The others cannot be told: they find the same, or their deadlines.
  [[noreturn]] void give_up(const Failure& failure, const std::string& what) {
    verdict_ = Verdict{failure, fmt::format("Exchange, round {}: {}", round_, what)};
    throw_verdict(*verdict_);
  }

  int rank_;
  int num_ranks_;
  GatherBlocks gather_blocks_;
  std::uint64_t round_ = 0;
  std::optional<Verdict> verdict_;
};

}  // namespace

std::shared_ptr<Exchange> make_callback_exchange(int rank, int num_ranks, GatherBlocks gather_blocks) {
  check_num_ranks(num_ranks);
  check_rank(rank, num_ranks);
  if (!gather_blocks) fail_argument("make_callback_exchange needs a function that gathers blocks, and got an empty one");
  return std::make_shared<CallbackExchange>(rank, num_ranks, std::move(gather_blocks));
}

}  // namespace tokenyard
