#include "cli/text.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/base/expect_error.hpp"

namespace tokenyard::cli {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(text, words_and_punctuation_are_tokens) {
  const Text text = split_text("The yard, the hill: the YARD!");
  EXPECT_THAT(text.vocabulary, ElementsAre("The", "yard", ",", "the", "hill", ":", "YARD", "!"));
  EXPECT_THAT(text.tokens, ElementsAre(0, 1, 2, 3, 4, 5, 3, 6, 7));
}

TEST(text, every_punctuation_mark_stands_alone) {
  EXPECT_THAT(split_text("a--b_2.").vocabulary, ElementsAre("a", "-", "b_2", "."));
  EXPECT_THAT(split_text("a--b_2.").tokens, ElementsAre(0, 1, 1, 2, 3));
}

TEST(text, characters_beyond_ascii_belong_to_words) {
  EXPECT_THAT(split_text("für 5 Übungen").vocabulary, ElementsAre("für", "5", "Übungen"));
}

TEST(text, white_space_and_control_characters_separate) {
  EXPECT_THAT(split_text(std::string_view(" a\tb\r\nc\0d\x7f ", 11)).vocabulary, ElementsAre("a", "b", "c", "d"));
}

TEST(text, nothing_makes_no_tokens) {
  EXPECT_THAT(split_text("").tokens, IsEmpty());
  EXPECT_THAT(split_text(" \n ").tokens, IsEmpty());
}

TEST(text, a_missing_file_is_named_with_the_reason) {
  test::expect_error([] { read_text_file("/no/such/file.txt"); }, ErrorCode::kSystem, "\"/no/such/file.txt\": No such file");
}

TEST(text, a_folder_is_not_read_as_a_file) {
  test::expect_error([] { read_text_file("/"); }, ErrorCode::kSystem, "cannot read \"/\"");
}

}  // namespace
}  // namespace tokenyard::cli
