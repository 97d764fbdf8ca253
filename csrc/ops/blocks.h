#pragma once

#include <cstddef>

namespace edgekit {

/// Elements in one unit of an op whose work has no rows of its own: enough to outweigh a call, few
/// enough to share between threads.
constexpr size_t kBlockSize = 1024;

/// Returns how many blocks `size` elements make; the last one may be shorter.
constexpr size_t block_count(size_t size) { return (size + kBlockSize - 1) / kBlockSize; }

/// Returns the element before which the first `blocks` blocks end.
constexpr size_t block_end(size_t blocks, size_t size) {
  return blocks * kBlockSize < size ? blocks * kBlockSize : size;
}

}  // namespace edgekit
