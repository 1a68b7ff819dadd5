// Memory that a test shares with the processes that it forks.
#pragma once

#include <sys/mman.h>

#include <new>
#include <stdexcept>

namespace tokenyard::test {

// A value-initialised T; make it before forking.
template <class T>
class SharedReport {
 public:
  SharedReport() {
    void* pages = mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) throw std::runtime_error("cannot map shared memory");
    report_ = new (pages) T();
  }
  ~SharedReport() { munmap(report_, sizeof(T)); }
  SharedReport(const SharedReport&) = delete;
  SharedReport& operator=(const SharedReport&) = delete;

  T* operator->() const { return report_; }

 private:
  T* report_;
};

}  // namespace tokenyard::test
