#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace edgekit {

/// The alignment of arenas, scratch and constants.
constexpr size_t kAlignment = 64;

/// Returns `size` rounded up to a multiple of kAlignment. `size` is at most SIZE_MAX - kAlignment.
constexpr size_t align_up(size_t size) { return (size + kAlignment - 1) / kAlignment * kAlignment; }

struct FreeBytes {
  void operator()(uint8_t* bytes) const { std::free(bytes); }
};

/// Owned bytes that start at a multiple of kAlignment.
using AlignedBytes = std::unique_ptr<uint8_t[], FreeBytes>;

/// Returns `size` zeros, all of whose pages are present, or null when the memory is not to be had.
///
/// Where there are megabytes, whole huge pages of them are asked for.
AlignedBytes make_aligned_bytes(size_t size);

}  // namespace edgekit
