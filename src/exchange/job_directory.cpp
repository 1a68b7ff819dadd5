#include "exchange/job_directory.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>
#include <utility>

#include "base/fail.hpp"
#include "base/log.hpp"
#include "exchange/job_file.hpp"

namespace tokenyard {
namespace {

constexpr std::size_t kMaxJobBytes = 100;
constexpr int kMaxSweeps = 10;  // who came too late may put a file down and take it away again meanwhile
constexpr mode_t kOthers = S_IRWXG | S_IRWXO;

std::string error_text(int error) { return std::generic_category().message(error); }

// Removed meanwhile, by whoever left last; ESTALE is how network file systems say it.
bool is_gone(int error) { return error == ENOENT || error == ESTALE; }

void check_job(const std::string& job) {
  const auto is_allowed = [](char character) {
    return (character >= '0' && character <= '9') || (character >= 'a' && character <= 'z') ||
           (character >= 'A' && character <= 'Z') || character == '.' || character == '-' || character == '_';
  };
  if (!job.empty() && job.size() <= kMaxJobBytes && std::all_of(job.begin(), job.end(), is_allowed)) return;
  fail_argument("the job name '{}': it must be 1 to {} letters, digits, '.', '-' or '_'", job, kMaxJobBytes);
}

FileDescriptor open_parent(const std::string& path) {
  FileDescriptor parent(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent) return parent;
  fail_argument("the directory '{}': {}. It must be there, and be the same for all ranks", path, error_text(errno));
}

// Returns nothing if it was removed right after it had been made or found.
FileDescriptor open_or_make(const FileDescriptor& parent, const std::string& name, const std::string& place) {
  if (mkdirat(parent.get(), name.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    fail(ErrorCode::kSystem, "cannot make the directory '{}': {}", place, error_text(errno));
  }
  FileDescriptor directory(openat(parent.get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!directory && is_gone(errno)) return directory;
  if (!directory) fail_argument("cannot enter '{}': {}", place, error_text(errno));
  struct stat status{};
  if (fstat(directory.get(), &status) != 0) fail(ErrorCode::kSystem, "'{}': {}", place, error_text(errno));
  if (status.st_uid != geteuid()) {
    fail_argument("'{}' belongs to user {}, and this process runs as user {}: choose another job name or directory", place,
                  status.st_uid, geteuid());
  }
  if ((status.st_mode & kOthers) != 0) {
    fail_argument("others than you may use '{}' (mode {:04o}): chmod 700 '{}'", place, status.st_mode & 07777u, place);
  }
  return directory;
}

}  // namespace

JobDirectory::JobDirectory(const std::string& path, const std::string& job, std::uint64_t writer)
    : place_(path + "/tokenyard-" + job), name_("tokenyard-" + job), temporary_(temporary_name(writer)) {
  check_job(job);
  parent_ = open_parent(path);
  while (!directory_) directory_ = open_or_make(parent_, name_, place_);
}

bool JobDirectory::is_in_place() const {
  struct stat named{};
  struct stat opened{};
  return fstatat(parent_.get(), name_.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 && fstat(directory_.get(), &opened) == 0 &&
         named.st_dev == opened.st_dev && named.st_ino == opened.st_ino;
}

std::unordered_set<std::string> JobDirectory::list() const {
  // A stream of its own each time: what was read once is not read again.
  const int fd = openat(directory_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0 && is_gone(errno)) return {};
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(fd < 0 ? nullptr : fdopendir(fd), closedir);
  if (!stream) {
    const int error = errno;
    if (fd >= 0) close(fd);
    fail(ErrorCode::kSystem, "cannot list '{}': {}", place_, error_text(error));
  }
  std::unordered_set<std::string> names;
  while (const dirent* entry = readdir(stream.get())) names.insert(entry->d_name);
  return names;
}

bool JobDirectory::holds(std::string_view name) const {
  return faccessat(directory_.get(), std::string(name).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

void JobDirectory::publish(std::string_view name, std::span<const std::byte> bytes) {
  if (!write_temporary(bytes)) fail_file("cannot write", name);
  if (renameat(directory_.get(), temporary_.c_str(), directory_.get(), std::string(name).c_str()) != 0) {
    fail_file("cannot write", name);
  }
}

JobDirectory::Claim JobDirectory::publish_once(std::string_view name, std::span<const std::byte> bytes) {
  if (!write_temporary(bytes)) {
    if (is_gone(errno)) return Claim::kGone;
    fail_file("cannot write", name);
  }
  // A link, unlike a rename, does not replace what is there.
  const int status = linkat(directory_.get(), temporary_.c_str(), directory_.get(), std::string(name).c_str(), 0);
  int error = status == 0 ? 0 : errno;
  struct stat written{};
  // Where the answer of a network file system was lost and the request repeated, the second finds the first's link.
  if (error == EEXIST && fstatat(directory_.get(), temporary_.c_str(), &written, 0) == 0 && written.st_nlink == 2) error = 0;
  remove(temporary_);
  if (error == 0) return Claim::kDone;
  if (error == EEXIST) return Claim::kTaken;
  if (is_gone(error)) return Claim::kGone;
  errno = error;
  fail_file("the file system must know hard links; cannot make", name);
}

// Returns false with errno.
bool JobDirectory::write_temporary(std::span<const std::byte> bytes) {
  const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC;
  const int fd = openat(directory_.get(), temporary_.c_str(), flags, S_IRUSR | S_IWUSR);
  if (fd < 0) return false;
  int error = 0;
  while (!bytes.empty() && error == 0) {
    const ssize_t num_written = write(fd, bytes.data(), bytes.size());
    if (num_written < 0 && errno != EINTR) error = errno;
    if (num_written > 0) bytes = bytes.subspan(static_cast<std::size_t>(num_written));
  }
  // Network file systems may say only now that the disk is full.
  if (close(fd) != 0 && error == 0 && errno != EINTR) error = errno;
  if (error == 0) return true;
  remove(temporary_);
  errno = error;
  return false;
}

std::optional<Bytes> JobDirectory::read(std::string_view name, std::string& problem) const {
  const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
  const FileDescriptor file(openat(directory_.get(), std::string(name).c_str(), flags));
  if (!file) {
    if (!is_gone(errno)) problem = fmt::format("cannot be opened: {}", error_text(errno));
    return std::nullopt;
  }
  struct stat status{};
  if (fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    problem = "is no regular file";
  } else if (status.st_uid != geteuid()) {
    problem = fmt::format("belongs to user {}", status.st_uid);
  } else if (status.st_size > static_cast<off_t>(kMaxJobFileBytes)) {
    problem = fmt::format("has {} bytes where at most {} are allowed", status.st_size, kMaxJobFileBytes);
  }
  if (!problem.empty()) return std::nullopt;
  Bytes bytes(static_cast<std::size_t>(status.st_size));
  std::size_t num_bytes = 0;
  while (num_bytes < bytes.size()) {
    const ssize_t num_read = ::read(file.get(), bytes.data() + num_bytes, bytes.size() - num_bytes);
    if (num_read < 0 && errno == EINTR) continue;
    if (num_read < 0 && is_gone(errno)) return std::nullopt;
    if (num_read < 0) problem = fmt::format("cannot be read: {}", error_text(errno));
    if (num_read < 0) return std::nullopt;
    if (num_read == 0) break;
    num_bytes += static_cast<std::size_t>(num_read);
  }
  bytes.resize(num_bytes);
  return bytes;
}

void JobDirectory::remove(std::string_view name) noexcept {
  unlinkat(directory_.get(), std::string(name).c_str(), 0);  // what is not there need not go
}

void JobDirectory::refresh() {
  if (write_temporary({})) remove(temporary_);
}

void JobDirectory::dissolve() {
  // Whoever did this before has removed the mark that only one can make, and the name may be that of the next directory.
  if (!is_in_place()) return remove(kLastName);
  // Out of the way first: ranks that meet again under the same name shall not land among what is being removed.
  const std::string aside = "." + name_ + temporary_;
  if (renameat(parent_.get(), name_.c_str(), parent_.get(), aside.c_str()) != 0) return;  // somebody has removed it
  int error = 0;
  for (int i = 0; i < kMaxSweeps; ++i) {
    for (const std::string& name : list()) {
      if (is_job_file_name(name) && name != kVerdictName) remove(name);
    }
    remove(kVerdictName);  // last: who still looks in shall find it
    if (unlinkat(parent_.get(), aside.c_str(), AT_REMOVEDIR) == 0) return;
    error = errno;
  }
  log(LogLevel::kWarning, fmt::format("'{}' is called '{}' from now on and stays: {}. Does it hold files of others?", place_,
                                      aside, error_text(error)));
}

void JobDirectory::fail_file(std::string_view what, std::string_view name) const {
  const int error = errno;
  fail(ErrorCode::kSystem, "{} '{}/{}': {}", what, place_, name, error_text(error));
}

}  // namespace tokenyard
