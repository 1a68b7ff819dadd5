#include "tests/support/residence.hpp"

namespace tokenyard::test {
namespace {

class HostTensorMemory : public TensorMemory {
 public:
  explicit HostTensorMemory(std::unique_ptr<std::byte[]> bytes, std::size_t num_bytes)
      : TensorMemory(bytes.get(), bytes.get(), num_bytes), owned_(std::move(bytes)) {}

 private:
  std::unique_ptr<std::byte[]> owned_;
};

}  // namespace

std::unique_ptr<TensorMemory> HostResidence::allocate(std::size_t num_bytes) {
  return std::make_unique<HostTensorMemory>(std::make_unique_for_overwrite<std::byte[]>(num_bytes), num_bytes);
}

}  // namespace tokenyard::test
