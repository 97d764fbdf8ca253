// Stands in for the C++ library's exceptions: nothing in a board's program catches one, so that who
// throws has met the end of the program. The linker's --wrap hands callers these functions, and
// what unwinds the stack and demangles names, 80 to 110 kB, is left out.

#include <cstddef>
#include <cstdio>
#include <cstdlib>

namespace {

[[noreturn]] void end() {
  std::fputs("edgekit: ended by an exception\n", stderr);
  std::abort();
}

}  // namespace

// The linker makes the names.
// NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {

void* __wrap___cxa_allocate_exception(std::size_t) { end(); }
void __wrap___cxa_throw(void*, void*, void (*)(void*)) { end(); }
void* __wrap___cxa_begin_catch(void*) { end(); }
void __wrap__Unwind_Resume(void*) { end(); }

/// Is asked only while a stack is unwound.
int __wrap___gxx_personality_v0(int, int, unsigned long long, void*, void*) { end(); }

char* __wrap___cxa_demangle(const char*, char*, std::size_t*, int* status) {
  constexpr int kNotAName = -2;
  if (status != nullptr) *status = kNotAName;
  return nullptr;
}

}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier)
