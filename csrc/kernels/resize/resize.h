#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_list.h"

namespace edgekit {

/// Weights of a linear resize add up to this.
constexpr int32_t kResizeOne = 2048;

/// y[j * size + i] = x[columns[j] * size + i] for j < pixels, i < size bytes: one row of a nearest
/// resize, channels side by side. 16 bytes behind the row of x may be read.
struct NearestRowArgs {
  size_t pixels;
  size_t size;
  const uint8_t* x;
  const uint32_t* columns;
  uint8_t* y;
};

/// One row of a linear resize, between the input rows `top` and `bottom`:
///
///   v(r) = (2048 - w[j]) * (r[columns[j]] - z_x) + w[j] * (r[min(columns[j] + 1, in_width - 1)] -
///                                                          z_x)
///   acc = (2048 - row_weight) * v(top) + row_weight * v(bottom)                     exact in int32
///   y[j] = zero_point + rne(clamp(float32(acc) * multiplier, lo, hi))
///
/// for each channel of output pixel j < pixels. Zero points are stored values; lo and hi are bounds
/// of y less its zero point. y does not overlap the input.
struct LinearRowArgs {
  size_t pixels;
  size_t channels;
  size_t in_width;
  const uint8_t* top;
  const uint8_t* bottom;
  /// In [0, 2048].
  int32_t row_weight;
  const uint32_t* columns;
  const uint16_t* weights;
  uint8_t* y;
  float multiplier;
  int32_t x_zero_point;
  int32_t zero_point;
  float lo;
  float hi;
};

template <>
KernelList<NearestRowArgs> kernels<NearestRowArgs>();
template <>
KernelList<LinearRowArgs> kernels<LinearRowArgs>();

}  // namespace edgekit
