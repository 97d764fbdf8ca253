#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/tensor.h"

namespace edgekit {

/// How many rows and columns of an image a pixel of a smaller one fills.
struct Repeats {
  size_t rows = 1;
  size_t columns = 1;
};

/// Finds how often pixels of `small` repeat in `large`, both [n, h, w, c]; false where height and
/// width are no whole fraction, or the rest differs.
bool find_repeats(const Shape& small, const Shape& large, Repeats* repeats);

/// Bytes that move from `count` places x_stride bytes apart to places y_stride bytes apart, each to
/// `repeats` neighbours.
struct PixelRun {
  size_t count;
  size_t size;
  const uint8_t* x;
  size_t x_stride;
  size_t repeats;
  uint8_t* y;
  size_t y_stride;
};

void repeat_pixels(const PixelRun& run);

}  // namespace edgekit
