#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_list.h"

namespace edgekit {

/// What a pool's kernel reads for one row of output, NHWC: output pixel j covers the columns
/// `j * stride_w - pad_left + s * dilation_w`, s < kernel_w, that lie in [0, in_width), of each of
/// `rows`, which holds the row_count rows of the window that lie in the image. At least one element
/// is covered. A row holds `in_width * channels` stored bytes; y holds `out_width * channels` and
/// does not overlap them.
struct PoolWindow {
  size_t channels;
  size_t in_width;
  size_t out_width;
  size_t row_count;
  size_t kernel_w;
  size_t stride_w;
  size_t dilation_w;
  size_t pad_left;
  const uint8_t* const* rows;
  uint8_t* y;
};

/// y = clamp(max(x), lo, hi); lo and hi are stored values.
struct MaxPoolArgs {
  PoolWindow window;
  int32_t lo;
  int32_t hi;
};

/// y = zero_point + rne(clamp(float32(sum(x - x_zero_point)) * multiplier[count], lo, hi)). count
/// is `fixed_count`, or the number of covered elements where that is 0. Zero points are stored
/// values, lo and hi bounds of y less its zero point.
struct AveragePoolArgs {
  PoolWindow window;
  const float* multiplier;
  size_t fixed_count;
  int32_t x_zero_point;
  int32_t zero_point;
  float lo;
  float hi;
};

/// y[c] = zero_point + rne(clamp(float32(sum_p(x[p * x_stride + c] - x_zero_point)) * multiplier,
/// lo, hi)), p < pixels.
struct GlobalMeanArgs {
  size_t pixels;
  size_t channels;
  const uint8_t* x;
  size_t x_stride;
  uint8_t* y;
  float multiplier;
  int32_t x_zero_point;
  int32_t zero_point;
  float lo;
  float hi;
};

template <>
KernelList<MaxPoolArgs> kernels<MaxPoolArgs>();
template <>
KernelList<AveragePoolArgs> kernels<AveragePoolArgs>();
template <>
KernelList<GlobalMeanArgs> kernels<GlobalMeanArgs>();

}  // namespace edgekit
