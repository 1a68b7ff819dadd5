#include "exchange/secret.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <system_error>

#include "base/fail.hpp"
#include "base/file_descriptor.hpp"

namespace tokenyard {
namespace {

constexpr const char* kVariable = "TOKENYARD_SECRET";
constexpr const char* kFileVariable = "TOKENYARD_SECRET_FILE";
constexpr std::size_t kMinBytes = 16;
constexpr std::size_t kMaxBytes = 4096;
constexpr mode_t kOthers = S_IRWXG | S_IRWXO;

[[noreturn]] void fail_file(const std::string& path, const std::string& problem) {
  fail_argument("{}='{}': {}", kFileVariable, path, problem);
}

std::string error_text(int error) { return std::generic_category().message(error); }

// Judges the open file, so that no other can take its place in between.
void check_file(const std::string& path, int fd) {
  struct stat status{};
  if (fstat(fd, &status) != 0) fail_file(path, error_text(errno));
  if (!S_ISREG(status.st_mode)) fail_file(path, "this is no regular file");
  if (status.st_uid != geteuid()) {
    fail_file(path, fmt::format("it belongs to user {}, and this process runs as user {}. Make a copy of your own",
                                status.st_uid, geteuid()));
  }
  if ((status.st_mode & kOthers) != 0) {
    fail_file(path, fmt::format("others than you may use it (mode {:04o}): chmod 600 '{}'", status.st_mode & 07777u, path));
  }
}

std::string read_secret_file(const std::string& path) {
  // Not blocking: opening a pipe would wait for its other end.
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) fail_file(path, error_text(errno));
  check_file(path, file.get());
  std::array<char, kMaxBytes + 2> buffer;  // room for a line end, and to see that there is more
  std::size_t num_bytes = 0;
  while (num_bytes < buffer.size()) {
    const ssize_t num_read = read(file.get(), buffer.data() + num_bytes, buffer.size() - num_bytes);
    if (num_read < 0 && errno == EINTR) continue;
    if (num_read < 0) fail_file(path, error_text(errno));
    if (num_read == 0) break;
    num_bytes += static_cast<std::size_t>(num_read);
  }
  std::string secret(buffer.data(), num_bytes);
  // $(...) drops the line end that echo and base64 write, so the variable and the file would differ by it.
  secret.erase(secret.find_last_not_of("\r\n") + 1);
  return secret;
}

}  // namespace

void check_secret(std::string_view secret, std::string_view origin) {
  if (secret.size() >= kMinBytes && secret.size() <= kMaxBytes) return;
  fail_argument("the secret of {} has {} bytes: it must have from {} to {}. A good one: {}", origin, secret.size(), kMinBytes,
                kMaxBytes, kSecretLine);
}

SecretSource secret_of_environment() {
  const char* text = std::getenv(kVariable);
  const char* path = std::getenv(kFileVariable);
  if (text != nullptr && path != nullptr) fail_argument("{} and {} are both set: unset one of them", kVariable, kFileVariable);
  if (text == nullptr && path == nullptr) return {};
  SecretSource source = text != nullptr ? SecretSource{text, kVariable}
                                        : SecretSource{read_secret_file(path), fmt::format("{}='{}'", kFileVariable, path)};
  check_secret(source.secret, source.origin);
  return source;
}

}  // namespace tokenyard
