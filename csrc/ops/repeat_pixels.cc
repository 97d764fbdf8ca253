#include "ops/repeat_pixels.h"

#include <cstring>

namespace edgekit {
namespace {

/// Moves `size` bytes, from kChunk to twice as many, as two chunks that may overlap.
template <size_t kChunk>
void copy_chunks(const PixelRun& run) {
  uint8_t* y = run.y;
  for (size_t i = 0; i < run.count; ++i) {
    const uint8_t* x = run.x + i * run.x_stride;
    uint8_t first[kChunk];
    uint8_t last[kChunk];
    std::memcpy(first, x, kChunk);
    std::memcpy(last, x + run.size - kChunk, kChunk);
    for (size_t j = 0; j < run.repeats; ++j, y += run.y_stride) {
      std::memcpy(y, first, kChunk);
      std::memcpy(y + run.size - kChunk, last, kChunk);
    }
  }
}

}  // namespace

bool find_repeats(const Shape& small, const Shape& large, Repeats* repeats) {
  if (small.rank != 4 || large.rank != 4) return false;
  const int64_t* in = small.dims;
  const int64_t* out = large.dims;
  if (in[0] != out[0] || in[3] != out[3] || in[1] < 1 || in[2] < 1 || out[1] % in[1] != 0 ||
      out[2] % in[2] != 0) {
    return false;
  }
  repeats->rows = static_cast<size_t>(out[1] / in[1]);
  repeats->columns = static_cast<size_t>(out[2] / in[2]);
  return true;
}

void repeat_pixels(const PixelRun& run) {
  // What a pixel has is too little for a call of memcpy to pay.
  if (run.size >= 4 && run.size <= 8) return copy_chunks<4>(run);
  if (run.size >= 8 && run.size <= 16) return copy_chunks<8>(run);
  if (run.size >= 16 && run.size <= 32) return copy_chunks<16>(run);
  if (run.size >= 32 && run.size <= 64) return copy_chunks<32>(run);
  uint8_t* y = run.y;
  for (size_t i = 0; i < run.count; ++i) {
    for (size_t j = 0; j < run.repeats; ++j, y += run.y_stride) {
      std::memcpy(y, run.x + i * run.x_stride, run.size);
    }
  }
}

}  // namespace edgekit
