// Expectations about what a call throws.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tokenyard/error.hpp"

namespace tokenyard::test {

// `call` throws an Error of this code whose text contains `text`.
template <class Call>
void expect_error(Call&& call, ErrorCode code, const char* text) {
  try {
    call();
    ADD_FAILURE() << "nothing was thrown, but an error with '" << text << "' was expected";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), testing::HasSubstr(text));
  }
}

}  // namespace tokenyard::test
