#include "runtime/aligned_bytes.h"

#include <sys/mman.h>

#include <cstring>

namespace edgekit {
namespace {

/// What x86-64, and ARM with pages of 4 KiB, call a huge page.
constexpr size_t kHugePage = size_t{2} << 20;

}  // namespace

AlignedBytes make_aligned_bytes(size_t size) {
  if (size > SIZE_MAX - kAlignment) return nullptr;
  const size_t rounded = size == 0 ? kAlignment : align_up(size);
  const bool huge = rounded >= kHugePage;
  // Not aligned_alloc(): the size need not be a multiple of the alignment.
  void* memory = nullptr;
  if (posix_memalign(&memory, huge ? kHugePage : kAlignment, rounded) != 0) return nullptr;
  AlignedBytes bytes(static_cast<uint8_t*>(memory));
#ifdef MADV_HUGEPAGE
  // Touching 4 KiB at a time takes ten times as long. The rest behind the last whole huge page
  // stays in small ones, so that no more memory is held than was asked for. Refusal costs nothing.
  if (huge) madvise(bytes.get(), rounded / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  std::memset(bytes.get(), 0, rounded);
  return bytes;
}

}  // namespace edgekit
