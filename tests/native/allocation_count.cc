#include "allocation_count.h"

#include <atomic>
#include <cerrno>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)

namespace edgekit::test {

size_t allocations() { return 0; }
bool counts_allocations() { return false; }

}  // namespace edgekit::test

#else

namespace {

std::atomic<size_t> count{0};

}  // namespace

// glibc's own entry points, behind the names that the whole program, operator new included, calls.
extern "C" {

void* __libc_malloc(size_t size);
void* __libc_calloc(size_t number, size_t size);
void* __libc_realloc(void* bytes, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  count.fetch_add(1, std::memory_order_relaxed);
  return __libc_malloc(size);
}

void* calloc(size_t number, size_t size) {
  count.fetch_add(1, std::memory_order_relaxed);
  return __libc_calloc(number, size);
}

void* realloc(void* bytes, size_t size) {
  count.fetch_add(1, std::memory_order_relaxed);
  return __libc_realloc(bytes, size);
}

void* aligned_alloc(size_t alignment, size_t size) {
  count.fetch_add(1, std::memory_order_relaxed);
  return __libc_memalign(alignment, size);
}

int posix_memalign(void** bytes, size_t alignment, size_t size) {
  count.fetch_add(1, std::memory_order_relaxed);
  *bytes = __libc_memalign(alignment, size);
  return *bytes == nullptr ? ENOMEM : 0;
}
}

namespace edgekit::test {

size_t allocations() { return count.load(); }
bool counts_allocations() { return true; }

}  // namespace edgekit::test

#endif
