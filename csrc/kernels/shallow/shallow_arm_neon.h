#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"
#include "kernels/shallow/shallow.h"

// What the NEON kernels for shallow convolutions share: everything but the products.

namespace edgekit {
namespace {

/// Output channels of a block.
constexpr size_t kShallowNr = 16;

/// Writes one pixel of 16 channels, or of those that are left, in every case.
__attribute__((noinline)) void store_pixel(const ShallowArgs& args,
                                           const NeonRequantize& requantize, const int32_t* sums,
                                           size_t i, size_t j, size_t channel) {
  const size_t channels = args.n - channel < kShallowNr ? args.n - channel : kShallowNr;
  const Scales16 scale = load_scales(args.requantize.scale + channel);
  const Sums16 acc = load_sums(sums);
  const size_t at = j * args.n + channel;
  int8x16_t codes;
  if (requantize.has_residual()) {
    const size_t stride = args.requantize.residual_stride;
    const uint8_t* residual = args.requantize.residual + i * stride + at;
    codes = requantize.add(acc, scale, load_codes(residual, channels));
  } else {
    codes = requantize.codes(acc, scale);
  }
  store_codes(args.y + i * args.y_stride + at, codes, channels);
}

/// Computes `kCount` pixels of row i from j on, 16 channels. `accumulate(acc, find_row, rows, step,
/// w)` adds their products: the window of pixel p starts `p * step` bytes behind find_row(r) in
/// each of its rows.
template <size_t kCount, class Accumulate>
EDGEKIT_INLINE void run_pixels(const ShallowArgs& args, const NeonRequantize& requantize,
                               const Accumulate& accumulate, const int8_t* w, size_t i, size_t j,
                               size_t channel) {
  int32x4_t acc[kCount][4];
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kCount; ++p) load_four(args.bias + channel, acc[p], p);
  const size_t step = args.stride_w * args.channels;
  const uint8_t* const* rows = args.rows + i * args.stride_h;
  const auto find_row = [&](size_t r) {
    return reinterpret_cast<const int8_t*>(rows[r * args.dilation_h] + j * step);
  };
  accumulate(acc, find_row, args.kernel_h, step, w);
  if (requantize.is_fast() && args.n - channel >= kShallowNr) {
    const float* s = args.requantize.scale + channel;
    const float32x4_t scale[4] = {vld1q_f32(s), vld1q_f32(s + 4), vld1q_f32(s + 8),
                                  vld1q_f32(s + 12)};
    uint8_t* y = args.y + i * args.y_stride + j * args.n + channel;
    EDGEKIT_UNROLL
    for (size_t p = 0; p < kCount; ++p) {
      store_next(y, NeonRequantize::fast_codes(acc[p], scale, requantize.shift()), args.n);
    }
    return;
  }
  int32_t sums[kCount][kShallowNr];
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kCount; ++p) {
    EDGEKIT_UNROLL
    for (size_t v = 0; v < 4; ++v) vst1q_s32(sums[p] + 4 * v, acc[p][v]);
  }
  for (size_t p = 0; p < kCount; ++p) {
    store_pixel(args, requantize, sums[p], i, j + p, channel);
  }
}

/// Runs the convolution, `kPixels` pixels at a time, with rows of weights of `w_row` bytes for each
/// output channel; `make_accumulate(w)` returns what adds the products of 16 channels.
template <size_t kPixels, class MakeAccumulate>
EDGEKIT_INLINE void run_shallow(const ShallowArgs& args, size_t w_row,
                                MakeAccumulate make_accumulate) {
  const NeonRequantize requantize(args.requantize);
  const int8_t* w = args.w;
  for (size_t channel = 0; channel < args.n; channel += kShallowNr) {
    const auto accumulate = make_accumulate(w);
    for (size_t i = 0; i < args.out_rows; ++i) {
      size_t j = 0;
      for (; j + kPixels <= args.out_width; j += kPixels) {
        run_pixels<kPixels>(args, requantize, accumulate, w, i, j, channel);
      }
      for (; j < args.out_width; ++j) {
        run_pixels<1>(args, requantize, accumulate, w, i, j, channel);
      }
    }
    w += kShallowNr * args.kernel_h * w_row;
  }
}

}  // namespace
}  // namespace edgekit
