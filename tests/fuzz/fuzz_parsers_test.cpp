// Decoders meet bytes that no encoder made.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "exchange/job_file.hpp"
#include "exchange/slurm_hosts.hpp"
#include "exchange/tcp_wire.hpp"
#include "tests/exchange/kinds.hpp"
#include "tests/fuzz/fuzz_settings.hpp"
#include "tests/fuzz/hostile_messages.hpp"
#include "tests/support/temporary_directory.hpp"

namespace tokenyard::test {
namespace {

class ParserFuzz : public Fuzz {
 protected:
  RandomBits random_{seed_of(fuzz_seed(), 3)};

  Bytes random_body() {
    const Bytes honest[] = {encode_hello({.num_ranks = 4, .rank = 1, .nonce = Nonce{}}),
                            encode_result({to_bytes("abc"), {}, to_bytes("de")}), encode_expired(1000),
                            encode_verdict(make_verdict(ErrorCode::kTimeout, 1, 2, "why"))};
    if (random_.one_in(4)) return random_bytes(random_, static_cast<std::size_t>(random_.from(0, 100)));
    return mutated(random_, honest[random_.next() % std::size(honest)]);
  }

  Bytes random_job_file() {
    JobFile file{.kind = static_cast<JobFileKind>(random_.from(1, 5)),
                 .rank = static_cast<std::uint32_t>(random_.from(0, 3)),
                 .num_ranks = static_cast<std::uint32_t>(random_.from(1, 3)),
                 .round = static_cast<std::uint64_t>(random_.from(0, 2)),
                 .session = random_.next(),
                 .body = random_body()};
    if (random_.one_in(8)) file.version = static_cast<std::uint32_t>(random_.next());
    const Bytes bytes = encode_job_file(file);
    return random_.one_in(3) ? bytes : mutated(random_, bytes);
  }
};

TEST_F(ParserFuzz, bodies_of_frames) {
  for (std::uint64_t i = 0; i < 2 * num_fuzz_messages(); ++i) {
    const Bytes body = random_body();
    decode_hello(body);
    decode_expired(body);
    decode_32_bytes(body);
    const int num_ranks = static_cast<int>(random_.from(1, 5));
    if (const auto messages = decode_result(body, num_ranks)) {
      ASSERT_EQ(messages->size(), static_cast<std::size_t>(num_ranks));
      EXPECT_EQ(encode_result(*messages), body);
    }
    if (const auto verdict = decode_verdict(body)) {
      EXPECT_GE(verdict->failure.culprit, -1);
      EXPECT_LT(verdict->failure.culprit, kMaxRanks);
    }
  }
}

TEST_F(ParserFuzz, files_of_jobs) {
  for (std::uint64_t i = 0; i < 2 * num_fuzz_messages(); ++i) {
    const Bytes bytes = random_job_file();
    std::string problem;
    const auto file = decode_job_file(bytes, problem);
    ASSERT_NE(file.has_value(), !problem.empty());
    if (file && file->version == kWireVersion) {
      EXPECT_EQ(encode_job_file(*file), bytes);
    }
  }
}

TEST_F(ParserFuzz, lists_of_hosts) {
  const std::string alphabet = "ab01-,[].";
  for (std::uint64_t i = 0; i < num_fuzz_messages(); ++i) {
    std::string list;
    for (auto length = random_.from(0, 24); length > 0; --length) list += alphabet[random_.next() % alphabet.size()];
    if (const auto hosts = parse_slurm_hosts(list)) {
      EXPECT_FALSE(hosts->first.empty());
      EXPECT_EQ(hosts->first.find_first_of(",[]"), std::string::npos) << list;
    }
  }
}

// Ranks that find files of others, or damaged ones, among theirs.
TEST_F(ParserFuzz, directories_with_hostile_files) {
  const TemporaryDirectory directory;
  const std::string place = directory.path() + "/tokenyard-job";
  const char* names[] = {"claim.0",   "claim.1",   "claim.2", "claim.7", "claim.x", "round.0.0", "round.0.1",
                         "round.1.0", "round.1.1", "left.0",  "left.1",  "verdict", "last",      ".tmp.1"};
  for (std::uint64_t i = 0; i < 60 + num_fuzz_messages() / 1'000; ++i) {
    std::filesystem::create_directory(place);
    chmod(place.c_str(), 0700);
    for (auto num_files = random_.from(0, 3); num_files > 0; --num_files) {
      const Bytes bytes = random_job_file();
      std::ofstream file(place + "/" + names[random_.next() % std::size(names)], std::ios::binary);
      file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }
    const Deadline since(kAmple);
    errors_of_ranks(2, [&](int rank) {
      const auto exchange = make_directory_exchange(directory.path(), rank, 2, "job", 60ms);
      for (int round = 0; round < 2; ++round) {
        const auto messages = exchange->all_gather(to_bytes(std::to_string(rank)), 60ms);
        EXPECT_EQ(messages[0], to_bytes("0"));
        EXPECT_EQ(messages[1], to_bytes("1"));
      }
    });
    EXPECT_LT(since.elapsed(), 10s);
    for (const auto& entry : std::filesystem::directory_iterator(directory.path())) std::filesystem::remove_all(entry);
  }
}

}  // namespace
}  // namespace tokenyard::test
