// TcpRendezvous::from_environment().
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>

#include "tests/support/exchange_ranks.hpp"

namespace tokenyard::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using Settings = std::map<std::string, std::string>;

const Settings kGood{
    {"RANK", "3"}, {"WORLD_SIZE", "8"}, {"LOCAL_RANK", "1"}, {"MASTER_ADDR", "10.0.0.1"}, {"MASTER_PORT", "29500"}};
constexpr const char* kVariables[] = {
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "TOKENYARD_PORT", "TORCHELASTIC_USE_AGENT_STORE"};

void apply(const Settings& settings) {
  for (const char* variable : kVariables) unsetenv(variable);
  for (const auto& [variable, value] : settings) setenv(variable.c_str(), value.c_str(), 1);
}

Settings changed(const std::string& variable, const std::string& value) {
  Settings settings = kGood;
  settings[variable] = value;
  return settings;
}

class Environment : public testing::Test {
 protected:
  void TearDown() override { apply({}); }
};

TEST_F(Environment, is_read_as_torchrun_sets_it) {
  apply(kGood);
  const TcpRendezvous rendezvous = TcpRendezvous::from_environment();
  EXPECT_EQ(rendezvous.rank, 3);
  EXPECT_EQ(rendezvous.num_ranks, 8);
  EXPECT_EQ(rendezvous.local_rank, 1);
  EXPECT_EQ(rendezvous.address, "10.0.0.1");
  EXPECT_EQ(rendezvous.port, 29500);
  EXPECT_EQ(rendezvous.listen_fd, -1);
}

TEST_F(Environment, port_steps_aside_for_torchruns_store) {
  for (const char* yes : {"True", "true", "1"}) {
    apply(changed("TORCHELASTIC_USE_AGENT_STORE", yes));
    EXPECT_EQ(TcpRendezvous::from_environment().port, 29501);
  }
  for (const char* no : {"False", "0", ""}) {
    apply(changed("TORCHELASTIC_USE_AGENT_STORE", no));
    EXPECT_EQ(TcpRendezvous::from_environment().port, 29500);
  }
}

TEST_F(Environment, own_port_overrides_both) {
  Settings settings = changed("TORCHELASTIC_USE_AGENT_STORE", "True");
  settings["TOKENYARD_PORT"] = "4711";
  apply(settings);
  EXPECT_EQ(TcpRendezvous::from_environment().port, 4711);
  settings.erase("MASTER_PORT");
  apply(settings);
  EXPECT_EQ(TcpRendezvous::from_environment().port, 4711);
}

TEST_F(Environment, each_missing_variable_is_named) {
  for (const auto& [variable, value] : kGood) {
    Settings settings = kGood;
    settings.erase(variable);
    apply(settings);
    const auto error = error_of([] { TcpRendezvous::from_environment(); });
    ASSERT_TRUE(error) << variable;
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error->what(), AllOf(HasSubstr(variable + " is not set"), HasSubstr("WORLD_SIZE=2")));
  }
}

TEST_F(Environment, each_malformed_value_is_shown) {
  const std::pair<const char*, const char*> bad[] = {{"RANK", ""},           {"RANK", "-1"},
                                                     {"RANK", "8"},          {"RANK", "3x"},
                                                     {"RANK", " 3"},         {"RANK", "0x3"},
                                                     {"RANK", "+3"},         {"RANK", "99999999999999999999"},
                                                     {"WORLD_SIZE", "0"},    {"WORLD_SIZE", "2049"},
                                                     {"WORLD_SIZE", "all"},  {"WORLD_SIZE", "-8"},
                                                     {"LOCAL_RANK", "8"},    {"LOCAL_RANK", "-1"},
                                                     {"LOCAL_RANK", "one"},  {"MASTER_ADDR", ""},
                                                     {"MASTER_PORT", "0"},   {"MASTER_PORT", "65536"},
                                                     {"MASTER_PORT", "ssh"}, {"TOKENYARD_PORT", "0"},
                                                     {"TOKENYARD_PORT", ""}, {"TOKENYARD_PORT", "70000"}};
  for (const auto& [variable, value] : bad) {
    apply(changed(variable, value));
    const auto error = error_of([] { TcpRendezvous::from_environment(); });
    ASSERT_TRUE(error) << variable << '=' << value;
    EXPECT_EQ(error->code(), ErrorCode::kInvalidArgument);
    const std::string expected =
        *value == '\0' ? std::string(variable) + " is set but empty" : std::string(variable) + "='" + value + "'";
    EXPECT_THAT(error->what(), AllOf(HasSubstr(expected), HasSubstr("MASTER_ADDR=")));
  }
}

TEST_F(Environment, there_is_no_port_after_the_last) {
  Settings settings = changed("TORCHELASTIC_USE_AGENT_STORE", "True");
  settings["MASTER_PORT"] = "65535";
  apply(settings);
  const auto error = error_of([] { TcpRendezvous::from_environment(); });
  ASSERT_TRUE(error);
  EXPECT_THAT(error->what(), AllOf(HasSubstr("65535"), HasSubstr("TOKENYARD_PORT")));
}

}  // namespace
}  // namespace tokenyard::test
