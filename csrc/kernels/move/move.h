#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_list.h"

namespace edgekit {

/// Copies `rows` rows of `width` elements of element_size bytes (1, 4 or 8):
///
///   y[r * y_stride + i * element_size] = x[r * x_stride + i * x_step]
///
/// Strides and the step are in bytes; those of x may be negative. x and y do not overlap. Nothing
/// is aligned.
struct MoveArgs {
  size_t rows;
  size_t width;
  size_t element_size;
  const uint8_t* x;
  ptrdiff_t x_stride;
  ptrdiff_t x_step;
  uint8_t* y;
  size_t y_stride;
};

template <>
KernelList<MoveArgs> kernels<MoveArgs>();

}  // namespace edgekit
