// The secret that the ranks of a job share.
#pragma once

#include <string>
#include <string_view>

namespace tokenyard {

// What an error about secrets ends with. No error and no log line ever holds a secret itself.
inline constexpr std::string_view kSameSecret = "give all ranks the same TOKENYARD_SECRET or TOKENYARD_SECRET_FILE";

// How to make one.
inline constexpr std::string_view kSecretLine = "export TOKENYARD_SECRET=$(head -c 32 /dev/urandom | base64)";

// Throws Error(kInvalidArgument) if it is too short to withstand guessing, or absurdly long. `origin` is where it comes from.
void check_secret(std::string_view secret, std::string_view origin);

struct SecretSource {
  std::string secret;  // empty: none is set
  std::string origin;  // for people
};

// Reads TOKENYARD_SECRET, or the file that TOKENYARD_SECRET_FILE names: a regular file of this user that nobody else can
// read or write. Throws Error(kInvalidArgument) with the cure.
SecretSource secret_of_environment();

}  // namespace tokenyard
