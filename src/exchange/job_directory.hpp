// A directory in which the ranks of one job put files for each other.
//
// A file comes under its name whole or not at all: it is written under another name first. There are no locks, and nothing is
// overwritten, so that what a network file system remembers of a name is right or "not there yet".
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>

#include "base/file_descriptor.hpp"
#include "exchange/bytes.hpp"

namespace tokenyard {

// Operations throw Error(kSystem) with the file's name where the system refuses.
class JobDirectory {
 public:
  enum class Claim : std::uint8_t {
    kDone,
    kTaken,  // there is a file of that name
    kGone,   // the directory has been removed
  };

  // Opens `path`/tokenyard-`job`, and makes it if it is not there. Throws Error(kInvalidArgument) if `path` is no directory, if
  // `job` is no name, or if others than this user own or may enter what is there. `writer` tells this writer's files from
  // those that others write at the same time.
  JobDirectory(const std::string& path, const std::string& job, std::uint64_t writer);

  const std::string& place() const noexcept { return place_; }  // the whole path

  // Whether the name still stands for this directory.
  bool is_in_place() const;

  // While others come and go, a network file system may leave out of a listing what is there; what is listed is there.
  std::unordered_set<std::string> list() const;
  bool holds(std::string_view name) const;

  void publish(std::string_view name, std::span<const std::byte> bytes);
  Claim publish_once(std::string_view name, std::span<const std::byte> bytes);  // of several writers one succeeds

  // Returns nothing if the file is not there; with a `problem` if it is there and cannot be one of ours.
  std::optional<Bytes> read(std::string_view name, std::string& problem) const;

  void remove(std::string_view name) noexcept;

  // Changes the directory, which makes a network file system look again at what others have changed.
  void refresh();

  // Removes it with its files; those that Tokenyard did not write stay. Its name is free from the beginning. Only for the
  // writer that has just put down kLastName.
  void dissolve();

 private:
  bool write_temporary(std::span<const std::byte> bytes);
  [[noreturn]] void fail_file(std::string_view what, std::string_view name) const;

  std::string place_;
  std::string name_;
  std::string temporary_;
  FileDescriptor parent_;
  FileDescriptor directory_;
};

}  // namespace tokenyard
