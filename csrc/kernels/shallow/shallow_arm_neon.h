#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"
#include "kernels/shallow/shallow.h"
#include "kernels/store_pixel_arm_neon.h"

// What the NEON kernels for shallow convolutions share: everything but the products.

namespace edgekit {
namespace {

/// Output channels of a block.
constexpr size_t kShallowNr = 16;

/// What the tiles of a row of 16 channels share. A copy of its own is known not to change when
/// codes are stored.
struct ShallowRow {
  const uint8_t* const* rows;
  size_t kernel_h;
  size_t dilation_h;
  /// Bytes between neighbouring windows, and between neighbouring output pixels.
  size_t step;
  size_t y_step;
  const int8_t* w;
  const int32_t* bias;
  const float* scale;
  float32x4_t shift;
  /// Whether outputs are full and fast_codes() serves.
  bool fast;
};

/// Computes `kCount` pixels of row i from j on, 16 channels; `offset` is where the first window
/// begins in its rows, and the codes go to y. Moves all three behind them. `accumulate(acc,
/// find_row, rows, step, w)` adds the products: the window of pixel p starts `p * step` bytes
/// behind find_row(r) in each of its rows.
template <size_t kCount, class Accumulate>
EDGEKIT_INLINE void run_pixels(const ShallowArgs& args, const NeonRequantize& requantize,
                               const Accumulate& accumulate, const ShallowRow& row, size_t i,
                               size_t channel, size_t& j, size_t& offset, uint8_t*& y) {
  int32x4_t acc[kCount][4];
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kCount; ++p) load_four(row.bias, acc[p], p);
  const auto find_row = [&](size_t r) {
    return reinterpret_cast<const int8_t*>(row.rows[r * row.dilation_h] + offset);
  };
  accumulate(acc, find_row, row.kernel_h, row.step, row.w);
  offset += kCount * row.step;
  if (row.fast) {
    const Scales16 scales = load_scales(row.scale);
    EDGEKIT_UNROLL
    for (size_t p = 0; p < kCount; ++p) {
      store_next(y, NeonRequantize::fast_codes(acc[p], scales.v, row.shift), row.y_step);
    }
    j += kCount;
    return;
  }
  int32_t sums[kCount][kShallowNr];
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kCount; ++p) {
    EDGEKIT_UNROLL
    for (size_t v = 0; v < 4; ++v) vst1q_s32(sums[p] + 4 * v, acc[p][v]);
  }
  for (size_t p = 0; p < kCount; ++p, ++j)
    store_pixel(args, args.n, requantize, sums[p], i, j, channel);
}

/// Runs the convolution, `kPixels` pixels at a time, with rows of weights of `w_row` bytes for each
/// output channel; `make_accumulate(w)` returns what adds the products of 16 channels.
template <size_t kPixels, class MakeAccumulate>
EDGEKIT_INLINE void run_shallow(const ShallowArgs& args, size_t w_row,
                                MakeAccumulate make_accumulate) {
  const NeonRequantize requantize(args.requantize);
  const int8_t* w = args.w;
  const size_t width = args.out_width;
  for (size_t channel = 0; channel < args.n; channel += kShallowNr) {
    const auto accumulate = make_accumulate(w);
    for (size_t i = 0; i < args.out_rows; ++i) {
      const ShallowRow row = {args.rows + i * args.stride_h,
                              args.kernel_h,
                              args.dilation_h,
                              args.stride_w * args.channels,
                              args.n,
                              w,
                              args.bias + channel,
                              args.requantize.scale + channel,
                              requantize.shift(),
                              requantize.is_fast() && args.n - channel >= kShallowNr};
      uint8_t* y = args.y + i * args.y_stride + channel;
      size_t offset = 0;
      size_t j = 0;
      while (j + kPixels <= width) {
        run_pixels<kPixels>(args, requantize, accumulate, row, i, channel, j, offset, y);
      }
      while (j < width) {
        run_pixels<1>(args, requantize, accumulate, row, i, channel, j, offset, y);
      }
    }
    w += kShallowNr * args.kernel_h * w_row;
  }
}

}  // namespace
}  // namespace edgekit
