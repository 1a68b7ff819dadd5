// The main function of all test programs: what they write lies in a directory of their own, so that several of them, or one of
// several builds, may run at once.
#include <gmock/gmock.h>

#include <cstdlib>

#include "tests/support/temporary_directory.hpp"

int main(int num_arguments, char** arguments) {
  testing::InitGoogleMock(&num_arguments, arguments);
  const tokenyard::test::TemporaryDirectory own;
  setenv("TEST_TMPDIR", own.path().c_str(), 1);  // testing::TempDir() says it from here on
  return RUN_ALL_TESTS();
}
