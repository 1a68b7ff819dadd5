// What this process holds of the system: to find out whether something was left behind.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace tokenyard::test {

inline int count_entries(const char* folder) {
  int num_entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++num_entries;
  return num_entries;
}

inline int count_descriptors() { return count_entries("/proc/self/fd"); }
inline int count_threads() { return count_entries("/proc/self/task"); }

// Lines of /proc/self/maps that map memfds of the library.
inline int count_shared_mappings() {
  std::ifstream maps("/proc/self/maps");
  int num_mappings = 0;
  for (std::string line; std::getline(maps, line);) num_mappings += line.find("memfd:tokenyard") != std::string::npos ? 1 : 0;
  return num_mappings;
}

// Files that the library might have left in /dev/shm.
inline int count_shared_memory_files() {
  int num_files = 0;
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator("/dev/shm", none)) {
    num_files += entry.path().filename().string().find("tokenyard") != std::string::npos ? 1 : 0;
  }
  return num_files;
}

// Inode numbers of this process's sockets.
inline std::set<unsigned long> own_sockets() {
  std::set<unsigned long> inodes;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code none;
    const std::string target = std::filesystem::read_symlink(entry.path(), none).string();
    if (target.starts_with("socket:[")) inodes.insert(std::strtoul(target.c_str() + 8, nullptr, 10));
  }
  return inodes;
}

// Inode numbers of all UNIX sockets of this network namespace, whoever has them.
inline std::set<unsigned long> unix_sockets() {
  std::ifstream table("/proc/net/unix");
  std::set<unsigned long> inodes;
  std::string line;
  std::getline(table, line);  // the heading
  while (std::getline(table, line)) {
    std::istringstream fields(line);
    std::string skipped;
    unsigned long inode = 0;
    for (int i = 0; i < 6; ++i) fields >> skipped;
    if (fields >> inode) inodes.insert(inode);
  }
  return inodes;
}

}  // namespace tokenyard::test
