#include "cli/npy.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <string_view>

#include "tests/base/expect_error.hpp"

namespace tokenyard::cli {
namespace {

template <class Element>
NpyArray make_array(DataType dtype, std::int64_t num_rows, std::int64_t num_columns) {
  NpyArray array{.dtype = dtype, .num_rows = num_rows, .num_columns = num_columns, .bytes = {}};
  array.bytes.resize(static_cast<std::size_t>(num_rows * num_columns) * sizeof(Element));
  for (std::int64_t i = 0; i < num_rows * num_columns; ++i) {
    const auto element = static_cast<Element>(i * 7 - 5);
    std::memcpy(array.bytes.data() + static_cast<std::size_t>(i) * sizeof(Element), &element, sizeof(Element));
  }
  return array;
}

void expect_round_trip(const NpyArray& array) {
  const NpyArray read = parse_npy(format_npy(array), "memory");
  EXPECT_EQ(read.dtype, array.dtype);
  EXPECT_EQ(read.num_rows, array.num_rows);
  EXPECT_EQ(read.num_columns, array.num_columns);
  EXPECT_EQ(read.bytes, array.bytes);
}

// A file of the version, header and elements given; the header's length is right.
std::vector<std::byte> make_file(std::string_view header, std::string_view elements, char major = 1, char minor = 0) {
  std::string file("\x93NUMPY");
  file += {major, minor, static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  if (major == 2) file += {'\0', '\0'};
  file += header;
  file += elements;
  const auto bytes = std::as_bytes(std::span(file));
  return {bytes.begin(), bytes.end()};
}

void expect_rejected(const std::vector<std::byte>& file, const char* text) {
  test::expect_error([&] { parse_npy(file, "ids.npy"); }, ErrorCode::kInvalidArgument, text);
  test::expect_error([&] { parse_npy(file, "ids.npy"); }, ErrorCode::kInvalidArgument, "ids.npy");
}

constexpr std::string_view kTwoIds("\1\0\0\0\2\0\0\0", 8);

TEST(npy, arrays_come_back_as_they_were_written) {
  expect_round_trip(make_array<std::int32_t>(DataType::kInt32, 3, 4));
  expect_round_trip(make_array<std::int64_t>(DataType::kInt64, 5, 1));
  expect_round_trip(make_array<float>(DataType::kFloat32, 2, 9));
  expect_round_trip(make_array<std::int64_t>(DataType::kInt64, 0, 8));
}

TEST(npy, integers_are_read_with_their_sign) {
  const NpyArray narrow = make_array<std::int32_t>(DataType::kInt32, 2, 2);
  const NpyArray wide = make_array<std::int64_t>(DataType::kInt64, 2, 2);
  for (const NpyArray& array : {narrow, wide}) {
    EXPECT_EQ(array.integer(0, 0), -5);
    EXPECT_EQ(array.integer(1, 1), 16);
  }
}

TEST(npy, files_on_disk_come_back) {
  const std::string path = testing::TempDir() + "npy_test.npy";
  const NpyArray array = make_array<std::int64_t>(DataType::kInt64, 10, 4);
  write_npy(path, array);
  EXPECT_EQ(read_npy(path).bytes, array.bytes);
}

TEST(npy, elements_start_at_a_multiple_of_64) {
  const NpyArray array = make_array<std::int64_t>(DataType::kInt64, 123, 4);
  EXPECT_EQ((format_npy(array).size() - array.bytes.size()) % 64, 0U);
}

TEST(npy, version_2_and_double_quotes_are_understood) {
  const NpyArray array =
      parse_npy(make_file("{\"descr\": \"<i4\", \"fortran_order\": False, \"shape\": (1, 2)}\n", kTwoIds, 2), "ids.npy");
  EXPECT_EQ(array.num_columns, 2);
  EXPECT_EQ(array.integer(0, 1), 2);
}

TEST(npy, something_else_is_recognised) {
  expect_rejected({}, "does not begin with");
  expect_rejected(std::vector<std::byte>(200, std::byte{0x78}), "not a .npy file");
}

TEST(npy, unknown_versions_are_named) {
  expect_rejected(make_file("{}", "", 3), "format version 3.0 is not supported");
  expect_rejected(make_file("{}", "", 1, 1), "format version 1.1 is not supported");
}

TEST(npy, truncated_files_say_what_is_missing) {
  const std::vector<std::byte> whole = format_npy(make_array<std::int64_t>(DataType::kInt64, 4, 4));
  for (std::size_t length = 0; length < whole.size(); ++length) {
    test::expect_error([&] { parse_npy(std::span(whole).first(length), "ids.npy"); }, ErrorCode::kInvalidArgument, "ids.npy: ");
  }
  expect_rejected({whole.begin(), whole.begin() + 7}, "truncated: the file ends after 7 bytes");
  expect_rejected({whole.begin(), whole.begin() + 50}, "truncated: the header should have");
  expect_rejected({whole.begin(), whole.end() - 1}, "needs 128 bytes of elements, and 127 follow");
}

TEST(npy, bytes_behind_the_elements_are_not_ignored) {
  std::vector<std::byte> file = format_npy(make_array<std::int64_t>(DataType::kInt64, 4, 4));
  file.push_back(std::byte{0});
  expect_rejected(file, "needs 128 bytes of elements, but 129 follow");
}

TEST(npy, malformed_headers_are_shown) {
  for (const char* header : {"", "{", "{'descr'}", "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2)", "['descr']",
                             "{'descr': '<i4', 'fortran_order': Maybe, 'shape': (1, 2)}", "{'descr': <i4}", "{'descr': '<i4",
                             "{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2)} more",
                             "{'descr': '<i4', 'fortran_order': False, 'shape': (1 2)}",
                             "{'descr': '<i4', 'fortran_order': False, 'shape': (x, 2)}"}) {
    SCOPED_TRACE(header);
    expect_rejected(make_file(header, kTwoIds), "malformed header");
  }
}

TEST(npy, missing_and_unknown_keys_are_named) {
  expect_rejected(make_file("{'fortran_order': False, 'shape': (1, 2)}", kTwoIds), "lacks the key 'descr'");
  expect_rejected(make_file("{'descr': '<i4', 'shape': (1, 2)}", kTwoIds), "lacks the key 'fortran_order'");
  expect_rejected(make_file("{'descr': '<i4', 'fortran_order': False}", kTwoIds), "lacks the key 'shape'");
  expect_rejected(make_file("{'descr': '<i4', 'fortran_order': False, 'shape': (1, 2), 'extra': 1}", kTwoIds),
                  "unknown key 'extra'");
}

TEST(npy, other_element_types_are_rejected) {
  expect_rejected(make_file("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1)}", kTwoIds), "dtype '<f8'");
  expect_rejected(make_file("{'descr': '>i4', 'fortran_order': False, 'shape': (1, 2)}", kTwoIds), "big-endian");
  expect_rejected(make_file("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1, 2)}", kTwoIds), "records");
}

TEST(npy, other_orders_and_dimensions_are_rejected) {
  expect_rejected(make_file("{'descr': '<i4', 'fortran_order': True, 'shape': (1, 2)}", kTwoIds), "Fortran order");
  expect_rejected(make_file("{'descr': '<i4', 'fortran_order': False, 'shape': (2,)}", kTwoIds), "has 1 dimensions");
  expect_rejected(make_file("{'descr': '<i4', 'fortran_order': False, 'shape': ()}", kTwoIds), "has 0 dimensions");
  expect_rejected(make_file("{'descr': '<i4', 'fortran_order': False, 'shape': (-1, 2)}", kTwoIds), "negative extent");
}

TEST(npy, shapes_that_overflow_are_rejected) {
  expect_rejected(make_file("{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999999999, 1)}", kTwoIds),
                  "larger than 2^63 - 1");
  expect_rejected(make_file("{'descr': '<i8', 'fortran_order': False, 'shape': (4611686018427387904, 4)}", kTwoIds),
                  "needs more than 2^63 - 1 bytes");
  expect_rejected(make_file("{'descr': '<i8', 'fortran_order': False, 'shape': (2305843009213693952, 1)}", kTwoIds),
                  "needs more than 2^63 - 1 bytes");
}

TEST(npy, unwritable_paths_are_named) {
  test::expect_error([] { write_npy("/no/such/folder/ids.npy", make_array<float>(DataType::kFloat32, 1, 1)); },
                     ErrorCode::kSystem, "/no/such/folder/ids.npy");
}

}  // namespace
}  // namespace tokenyard::cli
