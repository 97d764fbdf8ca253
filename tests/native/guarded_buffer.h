#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace edgekit::test {

/// Memory for `size` elements with an unmapped page at each end: the last element touches the page
/// behind it, so that a read or write too far is a crash and not luck. `alignment` (bytes, a power
/// of two) moves the beginning down and leaves that much less than itself unguarded.
template <typename T>
class GuardedBuffer {
 public:
  explicit GuardedBuffer(size_t size, size_t alignment = alignof(T)) : size_(size) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    const size_t bytes = (size * sizeof(T) + alignment - 1) / alignment * alignment;
    const size_t inner = (bytes + page - 1) / page * page;
    mapped_ = inner + 2 * page;
    void* memory = mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    base_ = static_cast<uint8_t*>(memory);
    if (memory == MAP_FAILED ||
        (inner != 0 && mprotect(base_ + page, inner, PROT_READ | PROT_WRITE) != 0)) {
      std::perror("guarded buffer");
      std::abort();
    }
    data_ = reinterpret_cast<T*>(base_ + page + inner - bytes);
  }

  ~GuardedBuffer() { munmap(base_, mapped_); }

  GuardedBuffer(const GuardedBuffer&) = delete;
  GuardedBuffer& operator=(const GuardedBuffer&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  T& operator[](size_t index) { return data_[index]; }

 private:
  size_t size_;
  size_t mapped_ = 0;
  uint8_t* base_ = nullptr;
  T* data_ = nullptr;
};

}  // namespace edgekit::test
