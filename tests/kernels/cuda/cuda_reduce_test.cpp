#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/cuda/reduce.hpp"
#include "kernels/host/reduce.hpp"
#include "tests/kernels/cuda/gpu_ranks.hpp"
#include "tests/kernels/cuda/routed_tokens.hpp"
#include "tests/kernels/cuda/seeds.hpp"
#include "tests/kernels/cuda/telling_numbers.hpp"

namespace tokenyard::test {
namespace {

// FP8 values with scales, such that few sums are lost to infinities, but some.
std::vector<std::byte> float8_rows(RandomBits& random, std::int64_t num_rows, std::int64_t num_elements,
                                   std::size_t returned_row_bytes) {
  std::vector<std::byte> rows(num_rows * returned_row_bytes);
  for (std::byte& byte : rows) byte = static_cast<std::byte>(random.next());
  for (std::int64_t row = 0; row < num_rows; ++row) {
    for (std::int64_t block = 0; block * kScaleBlock < num_elements; ++block) {
      auto scale =
          static_cast<float>(std::ldexp(static_cast<double>(random.from(1, 1 << 24)), static_cast<int>(random.from(-50, -20))));
      if (random.one_in(30)) scale = std::bit_cast<float>(static_cast<std::uint32_t>(random.next()));
      std::memcpy(rows.data() + row * returned_row_bytes + num_elements + block * sizeof(scale), &scale, sizeof(scale));
    }
  }
  return rows;
}

// Some ranks' contributions are read in place, the others' come from return places; as FP8 all do.
void reduce_as_the_host_does(std::uint64_t seed, int num_gpus) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  RandomBits random(seed);
  const DataType dtype = random.pick({DataType::kBFloat16, DataType::kFloat16, DataType::kFloat32, DataType::kFloat64});
  const std::int64_t num_elements = static_cast<std::int64_t>(16 / size_of(dtype)) * random.any_magnitude(1, 600);
  const std::size_t row_bytes = num_elements * size_of(dtype);
  RoutedCase routed = make_routed_case(random, {{.dtype = dtype, .num_elements = num_elements}});
  const bool as_float8 = dtype != DataType::kFloat64 && random.one_in(3);
  routed.shape.combine_as_float8 = as_float8;
  const int top_k = routed.shape.top_k;
  const int max_fan_out = routed.dimensions.max_fan_out;
  const bool plain_copies = random.one_in(3);
  const bool with_weights = random.one_in(2);
  const bool with_handshake = random.one_in(2);
  const int num_biases = static_cast<int>(random.from(0, 2));
  const std::int64_t output_gap = random.one_in(2) ? 0 : random.from(1, 9);
  const int num_sms = static_cast<int>(random.from(1, 132 / routed.num_ranks));

  // What the experts put out: the rows that each rank received.
  GpuRanks gpus(routed.num_ranks, num_gpus);
  std::vector<std::vector<std::byte>> outputs(routed.num_ranks);
  std::vector<std::shared_ptr<DeviceMemory>> windows;
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    const std::int64_t num_rows = routed.ranks[rank].source_offsets.back();
    outputs[rank] = telling_numbers(random, dtype, num_rows * num_elements);
    windows.push_back(gpus.shared_memory(rank, outputs[rank].size()));
    gpus.select(rank);
    check_cuda(cudaMemcpy(windows[rank]->data(), outputs[rank].data(), outputs[rank].size(), cudaMemcpyHostToDevice),
               "cudaMemcpy");
  }

  struct OnDevice {
    DeviceArray<const std::byte*> in_place;
    const std::byte* own_rows = nullptr;
    DeviceArray<std::int32_t> fan_out, destination, ordinal;
    DeviceArray<std::int64_t> row;
    DeviceArray<float> returned_weights, weights;
    DeviceArray<std::byte> returned_rows, output;
    std::vector<DeviceArray<std::byte>> biases;
  };
  std::vector<OnDevice> devices(routed.num_ranks);
  std::vector<std::array<ConstTensorView, 2>> biases_of(routed.num_ranks);
  const auto tensor_at = [&](void* data, int rank) {
    return TensorView(data, dtype, {routed.ranks[rank].num_tokens, num_elements}, {num_elements + output_gap, 1});
  };
  std::vector<std::vector<std::byte>> expected(routed.num_ranks);
  std::vector<std::vector<float>> expected_weights(routed.num_ranks);
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    const RoutedTokens& tokens = routed.ranks[rank];
    OnDevice& device = devices[rank];
    std::vector<const std::byte*> host_in_place;
    std::vector<const std::byte*> device_in_place;
    for (int peer = 0; peer < routed.num_ranks; ++peer) {
      const bool in_place = !as_float8 && random.one_in(2);
      host_in_place.push_back(in_place ? outputs[peer].data() : nullptr);
      device_in_place.push_back(in_place ? windows[peer]->data() : nullptr);
    }
    const std::int64_t num_places = tokens.num_tokens * max_fan_out;
    const std::vector<std::byte> returned =
        as_float8 ? float8_rows(random, num_places, num_elements, returned_row_bytes(routed.shape))
                  : telling_numbers(random, dtype, num_places * num_elements);
    std::vector<float> returned_weights(tokens.num_tokens * top_k);
    for (float& weight : returned_weights) weight = static_cast<float>(random.from(-99, 99));
    expected[rank].assign(tokens.num_tokens * (num_elements + output_gap) * size_of(dtype), std::byte{0x5a});
    expected_weights[rank].assign(tokens.num_tokens * top_k, -1.0F);
    // One bias per token, the other the same for all.
    std::array<std::vector<std::byte>, 2> biases;
    const auto bias_at = [&](const void* data, int idx) {
      return ConstTensorView(data, dtype, {tokens.num_tokens, num_elements}, {idx == 0 ? num_elements + output_gap : 0, 1});
    };
    std::array<ConstTensorView, 2> host_biases;
    gpus.select(rank);
    for (int idx = 0; idx < num_biases; ++idx) {
      biases[idx] = telling_numbers(random, dtype, (tokens.num_tokens + 1) * (num_elements + output_gap));
      device.biases.emplace_back(biases[idx]);
      host_biases[idx] = bias_at(biases[idx].data(), idx);
      biases_of[rank][idx] = bias_at(device.biases[idx].data(), idx);
    }
    const std::vector<std::uint8_t> absent(routed.num_ranks, 0);
    host::reduce({.dtype = dtype,
                  .row_bytes = row_bytes,
                  .stores = host::Stores::kCached,
                  .returned_row_bytes = returned_row_bytes(routed.shape),
                  .as_float8 = as_float8,
                  .num_tokens = tokens.num_tokens,
                  .max_fan_out = max_fan_out,
                  .fan_out = tokens.fan_out.data(),
                  .destination = tokens.destination.data(),
                  .row = tokens.row.data(),
                  .absent = absent,
                  .places = return_places(routed.shape, routed.dimensions),
                  .returned_rows = returned.data(),
                  .in_place = host_in_place,
                  .biases = host_biases,
                  .output = tensor_at(expected[rank].data(), rank),
                  .top_k = top_k,
                  .ordinal = tokens.ordinal.data(),
                  .returned_weights = returned_weights.data(),
                  .weights = with_weights
                                 ? TensorView(expected_weights[rank].data(), DataType::kFloat32, {tokens.num_tokens, top_k})
                                 : TensorView()});

    device.in_place = DeviceArray<const std::byte*>(device_in_place);
    device.own_rows = device_in_place[rank];
    device.fan_out = DeviceArray<std::int32_t>(tokens.fan_out);
    device.destination = DeviceArray<std::int32_t>(tokens.destination);
    device.ordinal = DeviceArray<std::int32_t>(tokens.ordinal);
    device.row = DeviceArray<std::int64_t>(tokens.row);
    device.returned_rows = DeviceArray<std::byte>(returned);
    device.returned_weights = DeviceArray<float>(returned_weights);
    device.weights = DeviceArray<float>(std::vector<float>(tokens.num_tokens * top_k, -1.0F));
    device.output = DeviceArray<std::byte>(std::vector<std::byte>(expected[rank].size(), std::byte{0x5a}));
  }

  gpus.settle();
  // Nothing may wait for a GPU, as allocating does, while a rank there waits for one that has not been launched.
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    const RoutedTokens& tokens = routed.ranks[rank];
    OnDevice& device = devices[rank];
    gpus.select(rank);
    cuda::Handshake handshake;
    if (with_handshake) {
      handshake = {.signals = gpus.signals(rank),
                   .header = {.kind = CallKind::kCombine, .in_place_slot = 0},
                   .entry_post = cuda::LineWord::kEnter,
                   .posts_data_at_entry = true,
                   .entry_wait = cuda::LineWord::kData,
                   .reads_calls = true,
                   .entry_phase = Phase::kCombineRows,
                   .exit_post = cuda::LineWord::kDone,
                   .exit_wait = cuda::LineWord::kDone,
                   .exit_phase = Phase::kCombineRead,
                   .ends_turn = true};
    }
    cuda::reduce({.dtype = dtype,
                  .row_bytes = row_bytes,
                  .as_float8 = as_float8,
                  .returned_row_bytes = returned_row_bytes(routed.shape),
                  .num_tokens = tokens.num_tokens,
                  .max_fan_out = max_fan_out,
                  .num_ranks = routed.num_ranks,
                  .fan_out = device.fan_out.data(),
                  .destination = device.destination.data(),
                  .row = device.row.data(),
                  .in_place = {device.in_place.data(), nullptr},
                  .rank = rank,
                  .own_rows = device.own_rows,
                  .returned_rows = device.returned_rows.data(),
                  .biases = biases_of[rank],
                  .output = tensor_at(device.output.data(), rank),
                  .top_k = top_k,
                  .ordinal = device.ordinal.data(),
                  .returned_weights = device.returned_weights.data(),
                  .weights = with_weights ? TensorView(device.weights.data(), DataType::kFloat32, {tokens.num_tokens, top_k})
                                          : TensorView(),
                  .handshake = handshake,
                  .state = gpus.state(rank)},
                 {.stream = gpus.stream(rank), .num_sms = num_sms, .plain_copies = plain_copies});
  }
  gpus.finish();
  for (int rank = 0; rank < routed.num_ranks; ++rank) {
    const std::vector<std::byte> output = devices[rank].output.contents();
    for (std::size_t i = 0; i < output.size(); ++i) {
      ASSERT_EQ(output[i], expected[rank][i]) << to_string(dtype) << ", byte " << i << " of rank " << rank << ", rows of "
                                              << row_bytes << " bytes, plain copies " << plain_copies << ", FP8 " << as_float8;
    }
    ASSERT_EQ(devices[rank].weights.contents(), expected_weights[rank]);
  }
}

TEST(cuda_reduce, sums_on_one_gpu_have_the_bits_of_the_hosts) {
  SKIP_WITHOUT_GPUS(1);
  for (const std::uint64_t seed : seeds(100)) {
    reduce_as_the_host_does(seed, 1);
    if (HasFailure()) return;
  }
}

TEST(cuda_reduce, sums_of_rows_pulled_from_another_gpu_have_the_bits_of_the_hosts) {
  SKIP_WITHOUT_GPUS(2);
  for (const std::uint64_t seed : seeds(100)) {
    reduce_as_the_host_does(seed, 2);
    if (HasFailure()) return;
  }
}

TEST(cuda_reduce, other_types_than_floats_are_refused) {
  SKIP_WITHOUT_GPUS(1);
  EXPECT_THROW(
      cuda::reduce({.dtype = DataType::kInt32, .row_bytes = 16, .output = TensorView(nullptr, DataType::kInt32, {0, 4})},
                   {.num_sms = 1}),
      Error);
}

TEST(cuda_reduce, contributions_to_float64_rows_cannot_come_as_float8) {
  SKIP_WITHOUT_GPUS(1);
  EXPECT_THROW(cuda::reduce({.dtype = DataType::kFloat64,
                             .row_bytes = 16,
                             .as_float8 = true,
                             .output = TensorView(nullptr, DataType::kFloat64, {0, 2})},
                            {.num_sms = 1}),
               Error);
}

}  // namespace
}  // namespace tokenyard::test
