// Whether others still hold what was handed out to them, be they threads or processes.
#pragma once

#include <mutex>
#include <vector>

#include "base/file_descriptor.hpp"

namespace tokenyard {

// Every end that is handed out is a descriptor: it may be passed to other processes, where it closes with its owner or with the
// process. A child that a holder forks holds it, too, until it runs another program or ends.
class Lease {
 public:
  FileDescriptor hand_out();

  // Whether an end that was handed out is open anywhere, in a message under way, too. Never blocks.
  bool is_held();

 private:
  std::mutex mutex_{};
  std::vector<FileDescriptor> own_ends_{};  // of what may be held
};

// Another descriptor of what `fd` holds.
FileDescriptor copy_of(const FileDescriptor& fd);

}  // namespace tokenyard
