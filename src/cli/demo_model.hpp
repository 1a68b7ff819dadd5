// A small Mixture-of-Experts layer made of seeds: embeddings, a gate and SwiGLU experts, as plain loops over float32 rows.
// Includes nothing of the library. Every sum runs in ascending order of its index, however the loops are nested.
#pragma once

#include <cstdint>
#include <vector>

namespace tokenyard::cli {

struct ModelShape {
  std::int64_t hidden = 0;
  std::int64_t intermediate = 0;  // width of an expert
  int num_experts = 0;
  std::uint64_t seed = 0;
};

// The hidden state of a token: its embedding plus half of its predecessor's, so that equal words differ by where they stand.
// `previous` is -1 for the first token of a text. Writes shape.hidden numbers in (-1.5, 1.5).
void write_hidden_state(const ModelShape& shape, std::int32_t token, std::int32_t previous, float* row);

class Gate {
 public:
  explicit Gate(const ModelShape& shape);

  // Writes one number per expert.
  void write_logits(const float* row, float* logits) const;

 private:
  ModelShape shape_;
  std::vector<float> weights_;  // [hidden, num_experts]
};

// down(silu(gate(x)) * up(x)).
class Expert {
 public:
  // Index num_experts is the shared expert.
  Expert(const ModelShape& shape, int expert_idx);

  // inputs and outputs: [num_rows, hidden], dense. They may be the same memory.
  void apply(const float* inputs, std::int64_t num_rows, float* outputs) const;

 private:
  ModelShape shape_;
  std::vector<float> gate_;  // [hidden, intermediate]
  std::vector<float> up_;    // [hidden, intermediate]
  std::vector<float> down_;  // [intermediate, hidden]
};

}  // namespace tokenyard::cli
