#include "cli/cublas_library.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "tokenyard/error.hpp"

namespace tokenyard::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(cublas_library, the_loader_searches_unless_a_file_or_folder_is_named) {
  EXPECT_THAT(cublas_files(nullptr), ElementsAre("libcublas.so.13", "libcublas.so.12"));
  EXPECT_THAT(cublas_files(""), ElementsAre("libcublas.so.13", "libcublas.so.12"));
  EXPECT_THAT(cublas_files("/some/libcublas.so.99"), ElementsAre("/some/libcublas.so.99"));
  EXPECT_THAT(cublas_files("/usr"), ElementsAre("/usr/libcublas.so.13", "/usr/libcublas.so.12"));
}

TEST(cublas_library, where_there_is_none_the_error_says_what_to_do) {
  setenv(kCublasVariable, "/no/such/libcublas.so.13", 1);
  try {
    cublas_library();
    ADD_FAILURE() << "a library that does not exist was loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    for (const char* part : {"--overlap", "/no/such/libcublas.so.13", kCublasVariable, "site-packages"}) {
      EXPECT_THAT(error.what(), HasSubstr(part));
    }
  }
  unsetenv(kCublasVariable);
}

}  // namespace
}  // namespace tokenyard::cli
