#include "guarded_buffer.h"

#include <signal.h>
#include <sys/wait.h>

#include <string>

#include "test.h"

namespace edgekit {
namespace {

/// Returns whether reading the byte kills a process.
bool is_unmapped(const volatile uint8_t* byte) {
  const pid_t child = fork();
  if (child == 0) {
    // A sanitizer would report the signal instead of dying of it.
    signal(SIGSEGV, SIG_DFL);
    _exit(*byte == 0 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

EDGEKIT_TEST(its_ends_are_unmapped) {
  for (const size_t size : {size_t{1}, size_t{4095}, size_t{4096}, size_t{70000}}) {
    test::GuardedBuffer<uint8_t> buffer(size);
    const std::string name = std::to_string(size);
    buffer[0] = buffer[size - 1] = 1;
    EDGEKIT_CHECK(!is_unmapped(buffer.data() + size - 1), name);
    EDGEKIT_CHECK(is_unmapped(buffer.data() + size), name);
  }
  const test::GuardedBuffer<uint8_t> empty(0);
  EDGEKIT_CHECK(is_unmapped(empty.data()), "empty");
}

EDGEKIT_TEST(alignment_is_kept) {
  const test::GuardedBuffer<int8_t> buffer(65, 64);
  EDGEKIT_CHECK(reinterpret_cast<uintptr_t>(buffer.data()) % 64 == 0, "65 bytes");
  EDGEKIT_CHECK(is_unmapped(reinterpret_cast<const uint8_t*>(buffer.data()) + 128), "65 bytes");
}

}  // namespace
}  // namespace edgekit
