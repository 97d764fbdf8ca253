#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/depthwise.h"
#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"
#include "kernels/store_pixel_arm_neon.h"

namespace edgekit {
namespace {

// Up to four neighbouring pixels of 16 channels at a time. The taps' products are added in int16
// for as long as the weights say that they fit, and then widened:
//
//   smull   p.8h, x0.8b, w0.8b       and smull2, smlal2 for the upper 8 channels
//   smlal   p.8h, x1.8b, w1.8b       and on
//   saddw   acc.4s, acc.4s, p.4h     and saddw2
//
// Products of weights whose magnitudes add up to 255 fit, since 128 * 255 = 32640; two always do.
//
// For 3x3 and 5x5 without dilation, 16 channels of the input are first copied into a block without
// gaps, padding included, where every tap lies at a constant distance from its pixel.
constexpr size_t kCr = 16;
// Without a stride, neighbours share columns, and a fourth pixel's sums find registers.
template <size_t kStride>
constexpr size_t kPixels = kStride == 1 ? 4 : 3;
// Vectors of input that a block holds: 24 KiB, to stay in the first-level cache.
constexpr size_t kBlockVectors = 1536;

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

inline void add(int32x4_t (&acc)[4], const Products& products) {
  add_low(acc[0], products.low);
  add_high(acc[1], products.low);
  add_low(acc[2], products.high);
  add_high(acc[3], products.high);
}

/// Weights of 16 channels, row by row of the window, and where products have to be widened.
template <size_t kSize>
struct Weights {
  static constexpr size_t kTaps = kSize * kSize;
  static constexpr size_t kPairs = (kTaps + 1) / 2;

  /// Reads them from the packed block, whose taps go down the columns.
  explicit Weights(const int8_t* packed) {
    uint8x16_t sum = vdupq_n_u8(0);
    uint8x16_t pair = sum;
    for (size_t t = 0; t < 2 * kPairs; ++t) {
      const size_t at = t % kSize * kSize + t / kSize;
      const int8x16_t tap = t < kTaps ? vld1q_s8(packed + at * kCr) : vdupq_n_s8(0);
      vst1q_s8(taps + t * kCr, tap);
      const uint8x16_t magnitude = vreinterpretq_u8_s8(vabsq_s8(tap));
      if (t % 2 == 0) {
        pair = magnitude;
        continue;
      }
      pair = vaddq_u8(pair, magnitude);
      const bool fits = vmaxvq_u8(vcgtq_u8(pair, vmvnq_u8(sum))) == 0;
      widen |= static_cast<uint32_t>(!fits) << (t / 2);
      sum = fits ? vaddq_u8(sum, pair) : pair;
    }
  }

  alignas(64) int8_t taps[2 * kPairs * kCr];
  /// Bit i: the products so far have to be widened before those of pair i of taps are added.
  uint32_t widen = 0;
};

/// Loads columns c and c + 1, or the last one.
template <size_t kColumns>
EDGEKIT_INLINE void load_columns(int8x16_t (&columns)[kColumns], size_t c, const int8_t*& next_x) {
  if (c + 1 < kColumns) {
    load_pair_next(next_x, columns + c);
  } else {
    columns[c] = load_next(next_x);
  }
}

/// Adds the products of `kCount` pixels, whose first tap is at x in a block with rows of `row_size`
/// bytes.
template <size_t kSize, size_t kStride, size_t kCount>
inline void accumulate(int32x4_t (&acc)[kCount][4], const int8_t* x, size_t row_size,
                       const Weights<kSize>& weights) {
  constexpr size_t kColumns = (kCount - 1) * kStride + kSize;
  const uint32_t widen = weights.widen;
  const int8_t* next_w = weights.taps;
  int8x16_t w[2];
  Products products[kCount];
  EDGEKIT_UNROLL
  for (size_t r = 0; r < kSize; ++r) {
    // Loaded just before they are needed: with four pixels there is no register to spare.
    int8x16_t columns[kColumns];
    const int8_t* next_x = x + r * row_size;
    EDGEKIT_UNROLL
    for (size_t c = 0; c <= (kCount - 1) * kStride; c += 2) load_columns(columns, c, next_x);
    EDGEKIT_UNROLL
    for (size_t s = 0; s < kSize; ++s) {
      const size_t last = (kCount - 1) * kStride + s;
      if (s != 0 && last % 2 == 0) load_columns(columns, last, next_x);
      const size_t t = r * kSize + s;
      if (t % 2 == 0) load_pair_next(next_w, w);
      if (t == 0) {
        EDGEKIT_UNROLL
        for (size_t p = 0; p < kCount; ++p) products[p] = multiply(columns[p * kStride], w[0]);
      } else if (t % 2 == 0 && (widen >> (t / 2) & 1) != 0) {
        EDGEKIT_UNROLL
        for (size_t p = 0; p < kCount; ++p) {
          add(acc[p], products[p]);
          products[p] = multiply(columns[p * kStride + s], w[0]);
        }
      } else {
        EDGEKIT_UNROLL
        for (size_t p = 0; p < kCount; ++p) {
          add_multiply(products[p], columns[p * kStride + s], w[t % 2]);
        }
      }
    }
  }
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kCount; ++p) add(acc[p], products[p]);
}

/// A number of pixels that the compiler knows.
template <size_t kCount>
struct Count {
  static constexpr size_t value = kCount;
};

/// What the tiles of a block share. A copy of its own is known not to change when codes are stored.
struct Block {
  /// 16 channels of the input under some output rows, `row_size` bytes a row.
  const int8_t* bytes;
  size_t row_size;
  const int32_t* bias;
  const float* scale;
  float32x4_t shift;
  /// Bytes between neighbouring output pixels.
  size_t y_step;
  /// Whether outputs are full and fast_codes() serves.
  bool fast;
};

/// Computes `kCount` neighbouring pixels of 16 channels, from pixel j of row i on, whose first tap
/// is at x and whose codes go to y; moves both behind them.
template <size_t kSize, size_t kStride, size_t kCount>
EDGEKIT_INLINE void run_tile(const DepthwiseArgs& args, const NeonRequantize& requantize,
                             const Block& block, const Weights<kSize>& weights, const int8_t*& x,
                             uint8_t*& y, size_t i, size_t& j, size_t channel) {
  int32x4_t acc[kCount][4];
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kCount; ++p) load_four(block.bias, acc[p], p);
  accumulate<kSize, kStride>(acc, x, block.row_size, weights);
  x += kCount * kStride * kCr;

  if (block.fast) {
    const Scales16 scales = load_scales(block.scale);
    EDGEKIT_UNROLL
    for (size_t p = 0; p < kCount; ++p) {
      store_next(y, NeonRequantize::fast_codes(acc[p], scales.v, block.shift), block.y_step);
    }
    j += kCount;
    return;
  }
  int32_t sums[kCount][kCr];
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kCount; ++p) {
    EDGEKIT_UNROLL
    for (size_t v = 0; v < 4; ++v) vst1q_s32(sums[p] + 4 * v, acc[p][v]);
  }
  for (size_t p = 0; p < kCount; ++p, ++j)
    store_pixel(args, args.channels, requantize, sums[p], i, j, channel);
}

/// Copies 16 channels of `columns` columns of one row, the first of them `first`, counted from
/// pad_left left of the row.
inline void copy_row(const DepthwiseArgs& args, const uint8_t* row, size_t first, size_t columns,
                     size_t channel, int8_t* to) {
  const int8x16_t zero = load_codes(args.zero + channel);
  const size_t step = args.channels;
  const size_t end = first + columns;
  const size_t inside_end =
      args.pad_left + args.in_width < end ? args.pad_left + args.in_width : end;
  size_t column = first;
  for (; column < args.pad_left && column < end; ++column, to += kCr) vst1q_s8(to, zero);
  if (column < inside_end) {
    const uint8_t* from = row + (column - args.pad_left) * args.channels + channel;
    for (; column + 4 <= inside_end; column += 4, to += 4 * kCr) {
      int8x16_t four[4];
      EDGEKIT_UNROLL
      for (size_t c = 0; c < 4; ++c) four[c] = load_strided(from, step);
      EDGEKIT_UNROLL
      for (size_t c = 0; c < 4; ++c) vst1q_s8(to + c * kCr, four[c]);
    }
    for (; column < inside_end; ++column, to += kCr) {
      vst1q_s8(to, load_strided(from, step));
    }
  }
  for (; column < end; ++column, to += kCr) vst1q_s8(to, zero);
}

/// Computes the pixels [begin, end) of the rows [top, bottom), 16 channels.
template <size_t kSize, size_t kStride>
__attribute__((noinline)) void run_block(const DepthwiseArgs& args,
                                         const NeonRequantize& requantize,
                                         const Weights<kSize>& weights, size_t top, size_t bottom,
                                         size_t begin, size_t end, size_t channel) {
  alignas(64) int8_t bytes[kBlockVectors * kCr];
  const size_t columns = (end - begin - 1) * kStride + kSize;
  const Block block = {bytes,
                       columns * kCr,
                       args.bias + channel,
                       args.requantize.scale + channel,
                       requantize.shift(),
                       args.channels,
                       requantize.is_fast() && args.channels - channel >= kCr};
  const size_t row_count = (bottom - top - 1) * kStride + kSize;
  for (size_t h = 0; h < row_count; ++h) {
    copy_row(args, args.rows[top * kStride + h], begin * kStride, columns, channel,
             bytes + h * block.row_size);
  }
  const int8_t* row = bytes;
  for (size_t i = top; i < bottom; ++i, row += kStride * block.row_size) {
    const int8_t* x = row;
    uint8_t* y = args.y + i * args.y_stride + begin * args.channels + channel;
    size_t j = begin;
    const auto run = [&](auto count) {
      run_tile<kSize, kStride, decltype(count)::value>(args, requantize, block, weights, x, y, i, j,
                                                       channel);
    };
    // Neighbouring sizes at the end, so that no tile is a single pixel where there are more.
    constexpr size_t kMost = kPixels<kStride>;
    while (end - j == kMost || end - j >= 2 * kMost - 1) run(Count<kMost>{});
    if constexpr (kMost == 4) {
      while (end - j >= 3) run(Count<3>{});
    }
    while (end - j >= 2) run(Count<2>{});
    if (j < end) run(Count<1>{});
  }
}

/// Runs a window of kSize by kSize without dilation.
template <size_t kSize, size_t kStride>
void run_square(const DepthwiseArgs& args) {
  const NeonRequantize requantize(args.requantize);
  // As many rows of the whole width as fill a block, or one row in parts.
  constexpr size_t kLongest = (kBlockVectors / kSize - kSize) / kStride + 1;
  const size_t width = args.out_width < kLongest ? args.out_width : kLongest;
  const size_t columns = (width - 1) * kStride + kSize;
  const size_t height = (kBlockVectors / columns - kSize) / kStride + 1;
  for (size_t channel = 0; channel < args.channels; channel += kCr) {
    const Weights<kSize> weights(args.w + channel * kSize * kSize);
    for (size_t top = 0; top < args.out_rows; top += height) {
      const size_t bottom = args.out_rows - top < height ? args.out_rows : top + height;
      for (size_t begin = 0; begin < args.out_width; begin += width) {
        const size_t end = args.out_width - begin < width ? args.out_width : begin + width;
        run_block<kSize, kStride>(args, requantize, weights, top, bottom, begin, end, channel);
      }
    }
  }
}

/// Returns where a tap of output pixel j has `channel`.
inline const uint8_t* tap(const DepthwiseArgs& args, const uint8_t* row, size_t j, size_t s,
                          size_t channel) {
  // A column left of the row wraps around and is thereby outside as well.
  const size_t column = j * args.stride_w + s * args.dilation_w - args.pad_left;
  return column < args.in_width ? row + column * args.channels + channel : args.zero + channel;
}

/// Runs a window of any kind, a pixel at a time.
void run_any(const DepthwiseArgs& args) {
  const NeonRequantize requantize(args.requantize);
  for (size_t i = 0; i < args.out_rows; ++i) {
    const uint8_t* const* rows = args.rows + i * args.stride_h;
    for (size_t channel = 0; channel < args.channels; channel += kCr) {
      for (size_t j = 0; j < args.out_width; ++j) {
        const int8_t* w = args.w + channel * args.kernel_h * args.kernel_w;
        int32x4_t acc[4];
        load_pair_at(args.bias + channel, acc);
        load_pair_at(args.bias + channel + 8, acc + 2);
        for (size_t s = 0; s < args.kernel_w; ++s) {
          for (size_t r = 0; r < args.kernel_h; r += 2, w += 2 * kCr) {
            const uint8_t* row = rows[r * args.dilation_h];
            Products products = multiply(load_codes(tap(args, row, j, s, channel)), vld1q_s8(w));
            if (r + 1 == args.kernel_h) {
              add(acc, products);
              w += kCr;
              break;
            }
            row = rows[(r + 1) * args.dilation_h];
            add_multiply(products, load_codes(tap(args, row, j, s, channel)), vld1q_s8(w + kCr));
            add(acc, products);
          }
        }
        int32_t sums[kCr];
        EDGEKIT_UNROLL
        for (size_t v = 0; v < 4; ++v) vst1q_s32(sums + 4 * v, acc[v]);
        store_pixel(args, args.channels, requantize, sums, i, j, channel);
      }
    }
  }
}

/// Returns whether the window is kSize by kSize, kStride apart, without dilation.
template <size_t kSize, size_t kStride>
bool is_square(const DepthwiseArgs& args) {
  return args.kernel_h == kSize && args.kernel_w == kSize && args.stride_h == kStride &&
         args.stride_w == kStride && args.dilation_h == 1 && args.dilation_w == 1;
}

}  // namespace

void depthwise_s8_s8c_s8_arm_neon(const DepthwiseArgs& args) {
  if (is_square<3, 1>(args)) return run_square<3, 1>(args);
  if (is_square<3, 2>(args)) return run_square<3, 2>(args);
  if (is_square<5, 1>(args)) return run_square<5, 1>(args);
  if (is_square<5, 2>(args)) return run_square<5, 2>(args);
  run_any(args);
}

}  // namespace edgekit
