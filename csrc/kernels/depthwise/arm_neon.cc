#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/depthwise.h"
#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"

namespace edgekit {
namespace {

// Two neighbouring pixels of 16 channels at a time. Taps come in pairs, down the columns, whose
// products are added in int16 and then widened:
//
//   smull   p.8h, x0.8b, w0.8b       and smull2, smlal2 for the upper 8 channels
//   smlal   p.8h, x1.8b, w1.8b
//   saddw   acc.4s, acc.4s, p.4h     and saddw2
constexpr size_t kCr = 16;
constexpr size_t kPixels = 2;
// Bytes of input that a run of pixels may read, so that it stays in the first-level cache while
// every block of channels passes by.
constexpr size_t kRunBytes = 16 * 1024;

/// The products of 16 channels.
struct Products {
  int16x8_t low;
  int16x8_t high;
};

inline Products multiply(int8x16_t x, int8x16_t w) {
  return {multiply_low(x, w), multiply_high(x, w)};
}

inline void add_multiply(Products& products, int8x16_t x, int8x16_t w) {
  add_multiply_low(products.low, x, w);
  add_multiply_high(products.high, x, w);
}

inline void add(Sums16& acc, const Products& products) {
  add_low(acc.v[0], products.low);
  add_high(acc.v[1], products.low);
  add_low(acc.v[2], products.high);
  add_high(acc.v[3], products.high);
}

/// Where the taps of neighbouring pixels are that have every column inside the row. A kernel height
/// of 0 stands for any.
template <size_t kKernelH>
struct Inside {
  Inside(const DepthwiseArgs& args, const uint8_t* const* first_row, size_t j, size_t channel)
      : rows(first_row),
        row_step(args.dilation_h),
        column_bytes(args.dilation_w * args.channels),
        pixel_bytes(args.stride_w * args.channels),
        offset((j * args.stride_w - args.pad_left) * args.channels + channel) {
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kKernelH; ++r) fixed_rows[r] = rows[r * row_step];
  }

  const uint8_t* operator()(size_t r, size_t s, size_t pixel) const {
    const uint8_t* row = kKernelH != 0 ? fixed_rows[r] : rows[r * row_step];
    return row + offset + s * column_bytes + pixel * pixel_bytes;
  }

  void next(size_t pixels) { offset += pixels * pixel_bytes; }

  const uint8_t* const* rows;
  const uint8_t* fixed_rows[kKernelH != 0 ? kKernelH : 1];
  size_t row_step;
  size_t column_bytes;
  size_t pixel_bytes;
  /// From the start of a row to the first pixel's first tap.
  size_t offset;
};

/// Where the taps of one pixel are that may have columns outside the row.
struct Anywhere {
  const DepthwiseArgs& args;
  const uint8_t* const* rows;
  size_t pixel_column;
  size_t channel;

  const uint8_t* operator()(size_t r, size_t s, size_t) const {
    // A column left of the row wraps around and is thereby outside as well.
    const size_t column = pixel_column * args.stride_w + s * args.dilation_w - args.pad_left;
    if (column >= args.in_width) return args.zero + channel;
    return rows[r * args.dilation_h] + column * args.channels + channel;
  }
};

/// Adds the products of a kernel of fixed size, for `kCount` pixels.
template <size_t kKernelH, size_t kKernelW, size_t kCount, typename Taps>
inline void accumulate(Sums16 (&acc)[kCount], const Taps& taps, const int8_t* w) {
  constexpr size_t kTaps = kKernelH * kKernelW;
  EDGEKIT_UNROLL
  for (size_t t = 0; t < kTaps; t += 2) {
    const int8x16_t w0 = vld1q_s8(w + kCr * t);
    const int8x16_t w1 = vld1q_s8(w + kCr * (t + 1 < kTaps ? t + 1 : t));
    EDGEKIT_UNROLL
    for (size_t p = 0; p < kCount; ++p) {
      Products products = multiply(load_codes(taps(t % kKernelH, t / kKernelH, p)), w0);
      if (t + 1 < kTaps) {
        const size_t next = t + 1;
        add_multiply(products, load_codes(taps(next % kKernelH, next / kKernelH, p)), w1);
      }
      add(acc[p], products);
    }
  }
}

/// Adds the products of a kernel of any size, for `kCount` pixels.
template <size_t kCount, typename Taps>
inline void accumulate(Sums16 (&acc)[kCount], const Taps& taps, const int8_t* w, size_t kernel_h,
                       size_t kernel_w) {
  for (size_t s = 0; s < kernel_w; ++s) {
    size_t r = 0;
    for (; r + 2 <= kernel_h; r += 2, w += 2 * kCr) {
      const int8x16_t w0 = vld1q_s8(w);
      const int8x16_t w1 = vld1q_s8(w + kCr);
      EDGEKIT_UNROLL
      for (size_t p = 0; p < kCount; ++p) {
        Products products = multiply(load_codes(taps(r, s, p)), w0);
        add_multiply(products, load_codes(taps(r + 1, s, p)), w1);
        add(acc[p], products);
      }
    }
    if (r < kernel_h) {
      const int8x16_t w0 = vld1q_s8(w);
      EDGEKIT_UNROLL
      for (size_t p = 0; p < kCount; ++p) add(acc[p], multiply(load_codes(taps(r, s, p)), w0));
      w += kCr;
    }
  }
}

/// Writes `count` pixels in every case that tile() does not.
__attribute__((noinline)) void store_pixels(const DepthwiseArgs& args,
                                            const NeonRequantize& requantize, const Sums16* acc,
                                            size_t count, size_t i, size_t j, size_t channel) {
  const size_t channels = args.channels - channel < kCr ? args.channels - channel : kCr;
  const Scales16 scale = load_scales(args.requantize.scale + channel);
  for (size_t p = 0; p < count; ++p) {
    const size_t at = (j + p) * args.channels + channel;
    int8x16_t codes;
    if (requantize.has_residual()) {
      const size_t stride = args.requantize.residual_stride;
      const uint8_t* residual = args.requantize.residual + i * stride + at;
      codes = requantize.add(acc[p], scale, load_codes(residual, channels));
    } else {
      codes = requantize.codes(acc[p], scale);
    }
    store_codes(args.y + i * args.y_stride + at, codes, channels);
  }
}

/// Computes `kCount` neighbouring pixels of the 16 channels from `channel` on. A kernel of 0 by 0
/// stands for one of any size.
template <size_t kKernelH, size_t kKernelW, size_t kCount, typename Taps>
inline void tile(const DepthwiseArgs& args, const NeonRequantize& requantize, const Taps& taps,
                 size_t i, size_t j, size_t channel) {
  const int8_t* w = args.w + channel * args.kernel_h * args.kernel_w;
  Sums16 acc[kCount];
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kCount; ++p) acc[p] = load_sums(args.bias + channel);
  if constexpr (kKernelH != 0) {
    accumulate<kKernelH, kKernelW>(acc, taps, w);
  } else {
    accumulate(acc, taps, w, args.kernel_h, args.kernel_w);
  }

  if (args.channels - channel < kCr || requantize.has_residual()) {
    Sums16 sums[kCount];
    EDGEKIT_UNROLL
    for (size_t p = 0; p < kCount; ++p) sums[p] = acc[p];
    return store_pixels(args, requantize, sums, kCount, i, j, channel);
  }
  const Scales16 scale = load_scales(args.requantize.scale + channel);
  uint8_t* y = args.y + i * args.y_stride + j * args.channels + channel;
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kCount; ++p) {
    store_codes(y + p * args.channels, requantize.codes(acc[p], scale), kCr);
  }
}

/// Computes the pixels [begin, end) of row i, which have every column inside the row, as far as
/// they fill tiles. Returns the first pixel that is left.
template <size_t kKernelH, size_t kKernelW>
__attribute__((noinline)) size_t run_inside(const DepthwiseArgs& args,
                                            const NeonRequantize& requantize, size_t i,
                                            size_t begin, size_t end, size_t channel) {
  Inside<kKernelH> taps(args, args.rows + i * args.stride_h, begin, channel);
  size_t j = begin;
  for (; j + kPixels <= end; j += kPixels) {
    tile<kKernelH, kKernelW, kPixels>(args, requantize, taps, i, j, channel);
    taps.next(kPixels);
  }
  return j;
}

/// Computes the pixels [begin, end) of row i, wherever their columns are.
template <size_t kKernelH, size_t kKernelW>
__attribute__((noinline)) void run_anywhere(const DepthwiseArgs& args,
                                            const NeonRequantize& requantize, size_t i,
                                            size_t begin, size_t end, size_t channel) {
  for (size_t j = begin; j < end; ++j) {
    const Anywhere taps{args, args.rows + i * args.stride_h, j, channel};
    tile<kKernelH, kKernelW, 1>(args, requantize, taps, i, j, channel);
  }
}

template <size_t kKernelH, size_t kKernelW>
void depthwise(const DepthwiseArgs& args) {
  const NeonRequantize requantize(args.requantize);
  // Pixels [inside_begin, inside_end) have every column inside the row.
  const size_t span = (args.kernel_w - 1) * args.dilation_w;
  const size_t reach = args.in_width + args.pad_left;
  const size_t inside_begin = (args.pad_left + args.stride_w - 1) / args.stride_w;
  const size_t inside_end = reach > span ? (reach - span - 1) / args.stride_w + 1 : 0;
  const size_t run = kRunBytes / (args.stride_w * args.channels * args.kernel_h) + kPixels;

  for (size_t i = 0; i < args.out_rows; ++i) {
    for (size_t begin = 0; begin < args.out_width; begin += run) {
      const size_t end = args.out_width - begin < run ? args.out_width : begin + run;
      const size_t left_end = inside_begin < begin ? begin
                              : inside_begin < end ? inside_begin
                                                   : end;
      const size_t right_begin = inside_end < left_end ? left_end
                                 : inside_end < end    ? inside_end
                                                       : end;
      for (size_t channel = 0; channel < args.channels; channel += kCr) {
        run_anywhere<kKernelH, kKernelW>(args, requantize, i, begin, left_end, channel);
        const size_t rest =
            run_inside<kKernelH, kKernelW>(args, requantize, i, left_end, right_begin, channel);
        run_anywhere<kKernelH, kKernelW>(args, requantize, i, rest, end, channel);
      }
    }
  }
}

}  // namespace

void depthwise_s8_s8c_s8_arm_neon(const DepthwiseArgs& args) {
  if (args.kernel_h == 3 && args.kernel_w == 3) return depthwise<3, 3>(args);
  if (args.kernel_h == 5 && args.kernel_w == 5) return depthwise<5, 5>(args);
  depthwise<0, 0>(args);
}

}  // namespace edgekit
