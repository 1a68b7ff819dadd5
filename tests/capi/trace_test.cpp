// A timeline is written from start to stop.
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/capi/c_ranks.hpp"

namespace tokenyard::test {
namespace {

TEST(trace, is_written_from_start_to_stop) {
  std::string folder = std::filesystem::temp_directory_path() / "tokenyard-capi-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string file = folder + "/rank%r.json";
  expect_ok(ty_start_trace(file.c_str()));
  expect_status(ty_start_trace(file.c_str()), TY_INVALID_ARGUMENT, "");
  run_c_ranks(2, [](int, ty_group* group) { expect_ok(ty_group_barrier(group)); });
  expect_ok(ty_stop_trace());
  expect_ok(ty_stop_trace());
  std::stringstream text;
  text << std::ifstream(folder + "/rank0.json").rdbuf();
  EXPECT_THAT(text.str(), testing::HasSubstr("barrier"));
  std::filesystem::remove_all(folder);
  expect_status(ty_start_trace(nullptr), TY_INVALID_ARGUMENT, "file is NULL");
}

}  // namespace
}  // namespace tokenyard::test
