// What stands in the tensors of a random case's calls. Every rank can tell what any other has.
#pragma once

#include <cstddef>
#include <cstdint>

#include "tests/reference/numbers.hpp"
#include "tests/support/random_case.hpp"

namespace tokenyard::test {

// The type of a step's expert outputs and results.
const Lane& combine_lane_of(const Shape& shape);
reference::Number number_of(DataType dtype);

// A row that `source` dispatches.
void fill_lane_row(const Step& step, int lane, int source, std::int64_t token, std::byte* row, std::size_t row_bytes);

// What the experts of `rank` computed for a row of the layout, its factor, and what is carried home from a place there.
void fill_output_row(const Step& step, const Lane& lane, int rank, std::int64_t row_idx, std::byte* row);
float factor_at(const Step& step, int rank, std::int64_t row_idx);
float carried_weight_at(const Step& step, int rank, std::int64_t place);

// A bias of `rank` for one of its tokens.
void fill_bias_row(const Step& step, const Lane& lane, int rank, int bias, std::int64_t token, std::byte* row);

// What a rank multiplies its rows with in a combine.
enum class Factors { kNone, kGiven, kOfRouting };
Factors factors_of(const Case& random_case, const Step& step, int rank);

// What else a rank may choose in a step by itself.
RandomBits choices_of(const Step& step, int rank);

}  // namespace tokenyard::test
