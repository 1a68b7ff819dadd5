#include "tests/software_gpu/stream.hpp"

#include <atomic>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "tests/software_gpu/block.hpp"
#include "tests/software_gpu/context.hpp"
#include "tests/software_gpu/graph.hpp"
#include "tests/software_gpu/workers.hpp"

namespace software_gpu {
namespace {

struct Device {
  Stream* default_stream;
  std::set<Stream*> streams;  // the others
};

// Never destroyed: threads still use it while the process ends.
struct Streams {
  std::mutex mutex;
  std::map<int, Device> devices;
  std::vector<Stream*> destroyed;

  Device& device(int number) {
    Device& device = devices[number];
    if (device.default_stream == nullptr) device.default_stream = new Stream(number, true);
    return device;
  }
};

Streams& streams() {
  static auto* const all = new Streams;
  return *all;
}

std::atomic<unsigned long long> num_streams_made{0};

// Marks of the streams that `stream` has to wait for at this moment because of the default stream.
std::vector<std::shared_ptr<Mark>> implicit_marks(Stream* stream) {
  std::vector<Stream*> others;
  {
    const std::lock_guard lock(streams().mutex);
    Device& device = streams().device(stream->device());
    if (stream == device.default_stream) {
      for (Stream* other : device.streams) {
        if (other->is_blocking()) others.push_back(other);
      }
    } else if (stream->is_blocking()) {
      others.push_back(device.default_stream);
    }
  }
  std::vector<std::shared_ptr<Mark>> marks;
  for (Stream* other : others) {
    if (!other->is_idle()) marks.push_back(other->mark());
  }
  return marks;
}

}  // namespace

Stream::Stream(int device, bool is_blocking) : device_(device), is_blocking_(is_blocking), id_(++num_streams_made) {}

void Stream::add(std::function<void()> operation) {
  const std::lock_guard lock(mutex_);
  operations_.push_back(std::move(operation));
  ++num_asked_;
  if (is_running_) return;
  is_running_ = true;
  run_apart([this] { run(); });
}

void Stream::finish() {
  std::unique_lock lock(mutex_);
  const std::uint64_t end = num_asked_;
  changed_.wait(lock, [&] { return num_done_ >= end; });
}

bool Stream::is_idle() {
  const std::lock_guard lock(mutex_);
  return num_done_ == num_asked_;
}

std::shared_ptr<Mark> Stream::mark() {
  auto mark = std::make_shared<Mark>();
  add([mark] { mark->set(); });
  return mark;
}

void Stream::run() {
  std::unique_lock lock(mutex_);
  while (!operations_.empty()) {
    const std::function<void()> operation = std::move(operations_.front());
    operations_.pop_front();
    lock.unlock();
    maybe_be_late();
    operation();
    lock.lock();
    ++num_done_;
    changed_.notify_all();
  }
  is_running_ = false;
}

Stream* stream_of(cudaStream_t stream) {
  if (stream != nullptr && stream != cudaStreamLegacy && stream != cudaStreamPerThread)
    return reinterpret_cast<Stream*>(stream);
  const std::lock_guard lock(streams().mutex);
  return streams().device(current_device()).default_stream;
}

Stream* make_stream(bool is_blocking) {
  auto* stream = new Stream(current_device(), is_blocking);
  const std::lock_guard lock(streams().mutex);
  streams().device(current_device()).streams.insert(stream);
  return stream;
}

void destroy_stream(Stream* stream) {
  const std::lock_guard lock(streams().mutex);
  streams().device(stream->device()).streams.erase(stream);
  streams().destroyed.push_back(stream);
}

void enqueue_uncaptured(Stream* stream, std::function<void()> operation) {
  auto marks = implicit_marks(stream);
  if (marks.empty()) return stream->add(std::move(operation));
  stream->add([marks = std::move(marks), operation = std::move(operation)] {
    for (const auto& mark : marks) mark->wait();
    operation();
  });
}

void enqueue(cudaStream_t handle, std::function<void()> operation) {
  Stream* stream = stream_of(handle);
  if (stream->graph == nullptr) return enqueue_uncaptured(stream, std::move(operation));
  stream->graph->nodes.push_back({Node::Kind::kOperation, stream->lane, std::move(operation), 0});
}

void finish_device(int device) {
  std::vector<Stream*> all;
  {
    const std::lock_guard lock(streams().mutex);
    const Device& known = streams().device(device);
    all.assign(known.streams.begin(), known.streams.end());
    all.push_back(known.default_stream);
    for (Stream* stream : streams().destroyed) {
      if (stream->device() == device) all.push_back(stream);
    }
  }
  for (Stream* stream : all) stream->finish();
}

void start_device(int device) {
  const std::lock_guard lock(streams().mutex);
  streams().device(device);
}

bool is_started(int device) {
  const std::lock_guard lock(streams().mutex);
  return streams().devices.contains(device);
}

}  // namespace software_gpu
