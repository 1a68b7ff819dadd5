// What stands in the tensors of a random case's calls. Every rank can tell what any other has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/reference/numbers.hpp"
#include "tests/support/random_case.hpp"

namespace tokenyard::test {

// The type of a step's expert outputs and results.
const Lane& combine_lane_of(const Shape& shape);
reference::Number number_of(DataType dtype);

// What the tensors that are given to dispatch stand for: the lanes, except that one stands for the first two where dispatch
// quantises.
std::vector<Lane> given_lanes(const Shape& shape);

// A row of such a tensor, and what arrives of it in a lane.
void fill_given_row(const Step& step, const Shape& shape, int tensor_idx, int source, std::int64_t token, std::byte* row);
void fill_lane_row(const Step& step, const Shape& shape, int lane, int source, std::int64_t token, std::byte* row);

// What the experts of `rank` computed for a row of the layout, its factor, and what is carried home from a place there.
void fill_output_row(const Step& step, const Lane& lane, int rank, std::int64_t row_idx, std::byte* row);
float factor_at(const Step& step, int rank, std::int64_t row_idx);
float carried_weight_at(const Step& step, int rank, std::int64_t place);

// The factor that a token's home gives at combine.
float given_weight_at(const Step& step, int source, std::int64_t token, std::int64_t k);

// A bias of `rank` for one of its tokens.
void fill_bias_row(const Step& step, const Lane& lane, int rank, int bias, std::int64_t token, std::byte* row);

// What a rank multiplies its rows with in a combine.
enum class Factors { kNone, kGiven, kOfRouting, kFromHome };
Factors factors_of(const Case& random_case, const Step& step, int rank);

// What else a rank may choose in a step by itself.
RandomBits choices_of(const Step& step, int rank);

}  // namespace tokenyard::test
