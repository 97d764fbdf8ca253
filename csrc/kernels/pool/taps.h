#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/pool/pool.h"

// Which taps of a pool's window lie in the image. Internal linkage: each instruction set compiles
// its own copy.

namespace edgekit {
namespace {

/// The taps [begin, end) of a window's width that lie in the image, and the column of tap 0.
struct Taps {
  ptrdiff_t column;
  size_t begin;
  size_t end;
};

inline Taps covered_taps(const PoolWindow& w, size_t j) {
  const ptrdiff_t column =
      static_cast<ptrdiff_t>(j * w.stride_w) - static_cast<ptrdiff_t>(w.pad_left);
  const ptrdiff_t step = static_cast<ptrdiff_t>(w.dilation_w);
  Taps taps = {column, 0, w.kernel_w};
  if (column < 0) taps.begin = static_cast<size_t>((-column + step - 1) / step);
  while (taps.end > taps.begin && column + static_cast<ptrdiff_t>(taps.end - 1) * step >=
                                      static_cast<ptrdiff_t>(w.in_width)) {
    --taps.end;
  }
  return taps;
}

/// Returns the pixel of tap s of a row of the window.
inline const uint8_t* tap_pixel(const PoolWindow& w, const Taps& taps, size_t row, size_t s) {
  return w.rows[row] +
         static_cast<size_t>(taps.column + static_cast<ptrdiff_t>(s * w.dilation_w)) * w.channels;
}

}  // namespace
}  // namespace edgekit
