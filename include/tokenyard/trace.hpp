// A timeline of what every rank did and for whom it waited, for `tokenyard report` and for viewers of Chrome's trace format.
#pragma once

#include <string>

namespace tokenyard {

// Writes the timeline of all groups of this process, those that are there and those that will be made, until stop_trace() or
// the end of the process. The environment variable TOKENYARD_TRACE=FILE does the same from the first group on.
//
// `file` is a path in which %r stands for the lowest rank of this process, %p for its process id and %% for a percent sign.
// Where neither is in it and the group has several processes, ".rank" and that rank are put before the extension:
// trace.json becomes trace.rank2.json. Ranks that are threads of one process share its file. An existing file is replaced.
//
// The file is opened when the first rank is there, and written in the background every 20 ms. A thread that has more than
// 16,384 events (1 MiB) waiting for that drops the rest; the file says how many. After the first event of a thread, recording
// takes no lock and no memory. Not inherited across fork(): a child has to start a trace of its own.
//
// Thread-safe, not collective, does not block on other ranks. Throws Error(kInvalidArgument) while a trace is being written
// already, and Error(kSystem) where the file cannot be written. What goes wrong later ends the trace with a line in the log.
void start_trace(const std::string& file);

// Writes what is left and closes the file. Without a trace it does nothing. Thread-safe.
void stop_trace();

}  // namespace tokenyard
