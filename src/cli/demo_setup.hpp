// What all ranks of the demonstration know before they start.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "cli/demo_model.hpp"
#include "cli/demo_reference.hpp"
#include "cli/options.hpp"
#include "cli/text.hpp"
#include "tokenyard/shape.hpp"

namespace tokenyard::cli {

struct DemoSetup {
  Text text;
  std::string text_path;
  std::string record_path;
  int num_ranks = 1;
  std::string rank_description;  // for people: "4 processes of this host"
  Payload payload = Payload::kFloat32;
  bool shared_expert = false;
  ModelShape model;
  Shape shape;
  std::chrono::milliseconds timeout{};

  std::int64_t num_tokens() const { return static_cast<std::int64_t>(text.tokens.size()); }
  std::int32_t token(std::int64_t position) const {
    return position < 0 ? -1 : text.tokens[static_cast<std::size_t>(position)];
  }

  // Rank r holds the tokens [shard_begin(r), shard_begin(r + 1)): its share is proportional to r + 1, so that ranks differ.
  std::int64_t shard_begin(int rank) const;

  // Calls of the layer: as many as the rank with the most tokens needs. Ranks that are done earlier take part with 0 tokens.
  std::int64_t num_batches() const;
};

// Reads the text. Throws UsageError and Error as run_demo does.
DemoSetup make_demo_setup(const DemoOptions& options, int num_ranks);

}  // namespace tokenyard::cli
