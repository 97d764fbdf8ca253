// Replaces the operators new and delete (C++17 [replacement.functions]): when memory runs out the
// program says so and ends, so that nothing in it throws and a board's program needs no code that
// catches.

#include <cstdio>
#include <cstdlib>
#include <new>

namespace {

void* check(void* memory) {
  if (memory == nullptr) {
    std::fputs("edgekit: no memory\n", stderr);
    std::_Exit(1);
  }
  return memory;
}

}  // namespace

void* operator new(std::size_t size) { return check(std::malloc(size == 0 ? 1 : size)); }

void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto step = static_cast<std::size_t>(alignment);
  return check(std::aligned_alloc(step, (size + step - 1) / step * step));
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
