// What one would write with MPI: rows packed per destination rank, then MPI_Alltoallv. A program of its own, so that nothing
// else depends on MPI; `tokenyard bench --against mpi` runs it and reads the line that it prints.
//
// Moves what a dispatch moves: one copy of a token's row per destination rank, with its index, top-k ids and weights.
#define OMPI_SKIP_MPICXX 1
#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <optional>
#include <string>
#include <vector>

#include "cli/cache_sweep.hpp"
#include "cli/core_binding.hpp"
#include "cli/payload.hpp"
#include "cli/random_bits.hpp"
#include "cli/routing_source.hpp"
#include "cli/statistics.hpp"

namespace tokenyard::cli {
namespace {

struct BaselineOptions {
  RoutingShape routing_shape;
  std::int64_t row_bytes = 0;
  std::string routing;
  int num_iterations = 0;
  int num_warmups = 0;
  bool check = false;
  bool bound = false;  // each rank to a core of its own, as the ranks of tokenyard bench
};

// Counts and offsets of what goes to (or comes from) every rank, in units of whole rows or metadata entries.
struct Parts {
  std::vector<int> counts;
  std::vector<int> offsets;
  int total = 0;

  explicit Parts(int num_ranks) : counts(num_ranks), offsets(num_ranks) {}

  void set_offsets() {
    total = 0;
    for (std::size_t rank = 0; rank < counts.size(); ++rank) {
      offsets[rank] = total;
      total += counts[rank];
    }
  }
};

class Baseline {
 public:
  explicit Baseline(const BaselineOptions& options);
  ~Baseline();
  Baseline(const Baseline&) = delete;
  Baseline& operator=(const Baseline&) = delete;

  void dispatch();
  std::int64_t count_wrong_rows() const;

  std::vector<double> measure();  // microseconds of the slowest rank, by iteration; warm-ups left out
  std::int64_t num_wrong_rows() const { return num_wrong_rows_; }
  std::int64_t num_sent_rows(bool to_others) const;

 private:
  std::uint64_t row_seed(int source, std::int64_t token) const { return hash_bits(options_.routing_shape.seed, source, token); }

  const BaselineOptions& options_;
  RoutingChoice choice_;
  int rank_ = 0;
  int num_ranks_ = 1;
  int experts_per_rank_ = 1;
  std::size_t metadata_bytes_ = 0;  // per row: token, top-k ids, top-k weights
  MPI_Datatype row_type_ = MPI_DATATYPE_NULL;
  MPI_Datatype metadata_type_ = MPI_DATATYPE_NULL;
  std::vector<std::byte> tokens_, packed_rows_, packed_metadata_, received_rows_, received_metadata_;
  Parts sent_, received_;
  CacheSweep cache_sweep_;
  std::int64_t num_wrong_rows_ = 0;
};

Baseline::Baseline(const BaselineOptions& options)
    : options_(options),
      choice_(make_routing(options.routing, options.routing_shape)),
      num_ranks_(options.routing_shape.num_ranks),
      sent_(num_ranks_),
      received_(num_ranks_),
      cache_sweep_(num_ranks_) {
  const RoutingShape& shape = options.routing_shape;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  experts_per_rank_ = (shape.num_experts + num_ranks_ - 1) / num_ranks_;
  metadata_bytes_ = sizeof(std::int32_t) + shape.top_k * (sizeof(std::int32_t) + sizeof(float));
  MPI_Type_contiguous(static_cast<int>(options.row_bytes), MPI_BYTE, &row_type_);
  MPI_Type_contiguous(static_cast<int>(metadata_bytes_), MPI_BYTE, &metadata_type_);
  MPI_Type_commit(&row_type_);
  MPI_Type_commit(&metadata_type_);

  tokens_.resize(shape.num_tokens * options.row_bytes);
  for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
    write_payload(row_seed(rank_, token), DataType::kByte, tokens_.data() + token * options.row_bytes, options.row_bytes);
  }
}

Baseline::~Baseline() {
  MPI_Type_free(&row_type_);
  MPI_Type_free(&metadata_type_);
}

void Baseline::dispatch() {
  const RoutingShape& shape = options_.routing_shape;
  // Count: a token goes to a rank once, however many of its experts live there.
  std::fill(sent_.counts.begin(), sent_.counts.end(), 0);
  std::vector<std::int64_t> last_token(num_ranks_, -1);
  for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
    for (int k = 0; k < shape.top_k; ++k) {
      const std::int64_t id = choice_.ids(rank_, token)[k];
      if (id < 0 || last_token[id / experts_per_rank_] == token) continue;
      last_token[id / experts_per_rank_] = token;
      ++sent_.counts[id / experts_per_rank_];
    }
  }
  sent_.set_offsets();
  MPI_Alltoall(sent_.counts.data(), 1, MPI_INT, received_.counts.data(), 1, MPI_INT, MPI_COMM_WORLD);
  received_.set_offsets();

  // Pack. Buffers keep their memory from call to call.
  packed_rows_.resize(sent_.total * options_.row_bytes);
  packed_metadata_.resize(sent_.total * metadata_bytes_);
  received_rows_.resize(received_.total * options_.row_bytes);
  received_metadata_.resize(received_.total * metadata_bytes_);
  std::vector<int> next_row = sent_.offsets;
  std::fill(last_token.begin(), last_token.end(), -1);
  std::vector<std::int32_t> ids(shape.top_k);
  for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
    for (int k = 0; k < shape.top_k; ++k) ids[k] = static_cast<std::int32_t>(choice_.ids(rank_, token)[k]);
    for (int k = 0; k < shape.top_k; ++k) {
      if (ids[k] < 0) continue;
      const int destination = ids[k] / experts_per_rank_;
      if (last_token[destination] == token) continue;
      last_token[destination] = token;
      const int row = next_row[destination]++;
      std::memcpy(packed_rows_.data() + row * options_.row_bytes, tokens_.data() + token * options_.row_bytes,
                  options_.row_bytes);
      std::byte* metadata = packed_metadata_.data() + row * metadata_bytes_;
      const auto token_idx = static_cast<std::int32_t>(token);
      std::memcpy(metadata, &token_idx, sizeof(token_idx));
      std::memcpy(metadata + sizeof(token_idx), ids.data(), ids.size() * sizeof(ids[0]));
      std::memcpy(metadata + sizeof(token_idx) + ids.size() * sizeof(ids[0]), choice_.weights(rank_, token),
                  shape.top_k * sizeof(float));
    }
  }
  MPI_Alltoallv(packed_metadata_.data(), sent_.counts.data(), sent_.offsets.data(), metadata_type_, received_metadata_.data(),
                received_.counts.data(), received_.offsets.data(), metadata_type_, MPI_COMM_WORLD);
  MPI_Alltoallv(packed_rows_.data(), sent_.counts.data(), sent_.offsets.data(), row_type_, received_rows_.data(),
                received_.counts.data(), received_.offsets.data(), row_type_, MPI_COMM_WORLD);
}

std::int64_t Baseline::count_wrong_rows() const {
  const RoutingShape& shape = options_.routing_shape;
  std::int64_t num_wrong = 0;
  int row = 0;
  for (int source = 0; source < num_ranks_; ++source) {
    for (std::int64_t token = 0; token < shape.num_tokens; ++token) {
      bool is_mine = false;
      for (int k = 0; k < shape.top_k; ++k) {
        const std::int64_t id = choice_.ids(source, token)[k];
        is_mine = is_mine || (id >= 0 && id / experts_per_rank_ == rank_);
      }
      if (!is_mine) continue;
      if (row == received_.total) return num_wrong + 1;
      std::int32_t token_idx = -1;
      std::memcpy(&token_idx, received_metadata_.data() + row * metadata_bytes_, sizeof(token_idx));
      const bool is_right =
          token_idx == token && is_payload(row_seed(source, token), DataType::kByte,
                                           received_rows_.data() + row * options_.row_bytes, options_.row_bytes);
      num_wrong += is_right ? 0 : 1;
      ++row;
    }
  }
  return num_wrong + received_.total - row;
}

std::vector<double> Baseline::measure() {
  std::vector<double> slowest;
  for (int i = 0; i < options_.num_warmups + options_.num_iterations; ++i) {
    if (options_.check) std::fill(received_rows_.begin(), received_rows_.end(), std::byte{0xee});
    cache_sweep_.sweep();
    MPI_Barrier(MPI_COMM_WORLD);
    const auto start = std::chrono::steady_clock::now();
    dispatch();
    double microseconds = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
    if (options_.check) num_wrong_rows_ += count_wrong_rows();
    MPI_Allreduce(MPI_IN_PLACE, &microseconds, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
    if (i >= options_.num_warmups) slowest.push_back(microseconds);
  }
  return slowest;
}

std::int64_t Baseline::num_sent_rows(bool to_others) const {
  return to_others ? sent_.total - sent_.counts[rank_] : sent_.counts[rank_];
}

int run(const BaselineOptions& options) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  std::optional<CoreBinding> binding;
  if (options.bound && has_core_for_each(options.routing_shape.num_ranks)) binding.emplace(rank);
  Baseline baseline(options);
  const std::vector<double> slowest = baseline.measure();
  std::vector<std::int64_t> totals{baseline.num_sent_rows(true) * options.row_bytes,
                                   baseline.num_sent_rows(false) * options.row_bytes, baseline.num_wrong_rows()};
  MPI_Allreduce(MPI_IN_PLACE, totals.data(), static_cast<int>(totals.size()), MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  if (rank != 0) return 0;

  const Summary summary = summarize(slowest);
  const double bytes_per_rank = static_cast<double>(totals[0] + totals[1]) / options.routing_shape.num_ranks;
  const std::string wrong_rows = options.check ? std::to_string(totals[2]) : "null";
  std::printf(
      "{\"operation\": \"mpi_alltoallv\", \"p50_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f, \"wire_bytes\": %lld, "
      "\"local_bytes\": %lld, \"gb_per_s\": %.6f, \"wrong_rows\": %s}\n",
      summary.p50, summary.p99, summary.max, static_cast<long long>(totals[0]), static_cast<long long>(totals[1]),
      bytes_per_rank / summary.p50 * 1e-3, wrong_rows.c_str());
  return 0;
}

}  // namespace
}  // namespace tokenyard::cli

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int exit_code = 2;
  if (argc != 11) {
    std::fprintf(
        stderr,
        "usage: tokenyard-mpi-baseline TOKENS ROW_BYTES EXPERTS TOP_K ROUTING SEED ITERS WARMUP check|trust bound|free\n"
        "started by `tokenyard bench --against mpi`\n");
  } else {
    tokenyard::cli::BaselineOptions options;
    MPI_Comm_size(MPI_COMM_WORLD, &options.routing_shape.num_ranks);
    options.routing_shape.num_tokens = std::strtoll(argv[1], nullptr, 10);
    options.row_bytes = std::strtoll(argv[2], nullptr, 10);
    options.routing_shape.num_experts = std::atoi(argv[3]);
    options.routing_shape.top_k = std::atoi(argv[4]);
    options.routing = argv[5];
    options.routing_shape.seed = std::strtoull(argv[6], nullptr, 10);
    options.num_iterations = std::atoi(argv[7]);
    options.num_warmups = std::atoi(argv[8]);
    options.check = std::string(argv[9]) == "check";
    options.bound = std::string(argv[10]) == "bound";
    try {
      exit_code = tokenyard::cli::run(options);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "tokenyard-mpi-baseline: %s\n", error.what());
      MPI_Abort(MPI_COMM_WORLD, 1);
    }
  }
  MPI_Finalize();
  return exit_code;
}
