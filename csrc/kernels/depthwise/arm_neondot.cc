#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/cells_arm_neondot.h"
#include "kernels/depthwise/depthwise.h"
#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"
#include "kernels/store_pixel_arm_neon.h"

namespace edgekit {
namespace {

// sdot adds four products to a lane, so four vertical taps are laid side by side first, once for
// each column, by two rounds of zip:
//
//   row 0   a0 a1 a2 ...                     columns[0]   a0 b0 c0 d0  a1 b1 c1 d1  ...  channels
//   0..3 row 1   b0 b1 b2 ...         zip, zip    columns[1]   channels 4..7 row 2   c0 c1 c2 ...
//   -->       columns[2]   channels 8..11 row 3   d0 d1 d2 ...                     columns[3]
//   channels 12..15
//
// Every output that a column reaches then takes one sdot for four channels. Of two output rows that
// lie one row apart, the lower one reads the same columns with its weights shifted down by one tap:
// w0 w1 w2 0 becomes 0 w0 w1 w2. Columns outside the row are filled from `zero` like any others.
constexpr size_t kCr = 16;
constexpr size_t kKr = 4;
constexpr size_t kPixels = 4;
// Columns that are interleaved at a time, times the groups of four taps that a column has: 16 KiB.
constexpr size_t kScratchColumns = 256;

/// The interleaved columns of one run of pixels: `[groups][4][columns][16]`.
struct Columns {
  int8_t* bytes;
  size_t count;
  size_t groups;

  int8_t* at(size_t group, size_t vector, size_t column) const {
    return bytes + ((group * 4 + vector) * count + column) * 16;
  }
};

/// Returns the byte where `column`, counted from pad_left left of the row, has `channel` in `row`.
inline const uint8_t* tap(const DepthwiseArgs& args, const uint8_t* row, size_t column,
                          size_t channel) {
  // A column left of the row wraps around and is thereby outside as well.
  column -= args.pad_left;
  return column < args.in_width ? row + column * args.channels + channel : args.zero + channel;
}

/// Interleaves four taps of 16 channels.
inline void interleave(int8x16_t a, int8x16_t b, int8x16_t c, int8x16_t d, int8x16_t (&out)[4]) {
  const int16x8_t ab_low = vreinterpretq_s16_s8(vzip1q_s8(a, b));
  const int16x8_t ab_high = vreinterpretq_s16_s8(vzip2q_s8(a, b));
  const int16x8_t cd_low = vreinterpretq_s16_s8(vzip1q_s8(c, d));
  const int16x8_t cd_high = vreinterpretq_s16_s8(vzip2q_s8(c, d));
  out[0] = vreinterpretq_s8_s16(vzip1q_s16(ab_low, cd_low));
  out[1] = vreinterpretq_s8_s16(vzip2q_s16(ab_low, cd_low));
  out[2] = vreinterpretq_s8_s16(vzip1q_s16(ab_high, cd_high));
  out[3] = vreinterpretq_s8_s16(vzip2q_s16(ab_high, cd_high));
}

/// Returns the input row of vertical tap r of `taps`; behind the last tap, whose weights are zero,
/// the last one's.
inline const uint8_t* tap_row(const DepthwiseArgs& args, const uint8_t* const* rows, size_t r,
                              size_t taps) {
  return rows[(r < taps ? r : taps - 1) * args.dilation_h];
}

/// Interleaves 16 channels of the columns [begin, end) of one group. Each of four rows starts with
/// the first of them, the next one is `step` bytes on.
inline void fill_columns(const uint8_t* const (&row)[kKr], size_t step, const Columns& columns,
                         size_t group, size_t begin, size_t end) {
  size_t offset = 0;
  for (size_t column = begin; column < end; ++column, offset += step) {
    int8x16_t out[4];
    interleave(load_codes(row[0] + offset), load_codes(row[1] + offset),
               load_codes(row[2] + offset), load_codes(row[3] + offset), out);
    EDGEKIT_UNROLL
    for (size_t v = 0; v < 4; ++v) vst1q_s8(columns.at(group, v, column), out[v]);
  }
}

/// Fills the columns with 16 channels, `taps` taps high. The first of them is column `first`,
/// counted from pad_left left of the row.
void fill(const DepthwiseArgs& args, const uint8_t* const* rows, size_t taps, size_t first,
          size_t channel, const Columns& columns) {
  const size_t reach = args.in_width + args.pad_left;
  const size_t left = args.pad_left > first ? args.pad_left - first : 0;
  const size_t inside = reach > first ? reach - first : 0;
  const size_t left_end = left < columns.count ? left : columns.count;
  const size_t inside_end = inside < columns.count ? inside : columns.count;
  const uint8_t* zero = args.zero + channel;
  const uint8_t* const zeros[kKr] = {zero, zero, zero, zero};
  for (size_t group = 0; group < columns.groups; ++group) {
    fill_columns(zeros, 0, columns, group, 0, left_end);
    if (left_end < inside_end) {
      const size_t offset = (first + left_end - args.pad_left) * args.channels + channel;
      const uint8_t* row[kKr];
      EDGEKIT_UNROLL
      for (size_t q = 0; q < kKr; ++q) row[q] = tap_row(args, rows, group * kKr + q, taps) + offset;
      fill_columns(row, args.channels, columns, group, left_end, inside_end);
    }
    fill_columns(zeros, 0, columns, group, inside_end, columns.count);
  }
}

/// Returns the weights of four channels for the tap column s, shifted down by `shift` taps: lanes
/// of the group before this one move in.
template <size_t kShift>
inline int8x16_t load_weights(const int8_t* w, size_t group) {
  const uint32x4_t own = vreinterpretq_u32_s8(vld1q_s8(w));
  if constexpr (kShift == 0) return vreinterpretq_s8_u32(own);
  const uint32x4_t shifted = vshlq_n_u32(own, 8);
  if (group == 0) return vreinterpretq_s8_u32(shifted);
  const uint32x4_t before = vreinterpretq_u32_s8(vld1q_s8(w - kCr * kKr));
  return vreinterpretq_s8_u32(vsriq_n_u32(shifted, before, 24));
}

/// Computes four neighbouring pixels, whose first column is `first`, of four channels in `kRows`
/// neighbouring rows. w is theirs in the packed block.
template <size_t kRows>
inline void accumulate(const DepthwiseArgs& args, const Columns& columns, size_t vector,
                       size_t first, const int8_t* w, int32x4_t (&acc)[kRows][kPixels]) {
  for (size_t group = 0; group < columns.groups; ++group) {
    const int8_t* x = columns.at(group, vector, first);
    const int8_t* group_w = w + group * kCr * kKr;
    const size_t w_step = columns.groups * kCr * kKr;
    for (size_t s = 0; s < args.kernel_w; ++s, group_w += w_step) {
      const int8_t* tap_x = x + s * args.dilation_w * 16;
      const int8x16_t upper = load_weights<0>(group_w, group);
      const int8x16_t lower = load_weights<kRows - 1>(group_w, group);
      EDGEKIT_UNROLL
      for (size_t p = 0; p < kPixels; ++p) {
        const int8x16_t column = vld1q_s8(tap_x + p * args.stride_w * 16);
        acc[0][p] = vdotq_s32(acc[0][p], column, upper);
        if constexpr (kRows == 2) acc[1][p] = vdotq_s32(acc[1][p], column, lower);
      }
    }
  }
}

/// Writes `pixels` pixels of four channels (fewer at the end), from one vector of sums each.
inline void store_pixels(const DepthwiseArgs& args, const NeonRequantize& requantize,
                         const int32x4_t (&acc)[kPixels], size_t i, size_t j, size_t channel,
                         size_t pixels) {
  if (requantize.is_fast() && args.channels - channel >= 4 && pixels == kPixels) {
    const float32x4_t scale = vld1q_f32(args.requantize.scale + channel);
    const float32x4_t scales[4] = {scale, scale, scale, scale};
    uint8_t* y = args.y + i * args.y_stride + j * args.channels + channel;
    store_lanes_next(y, NeonRequantize::fast_codes(acc, scales, requantize.shift()), args.channels);
    return;
  }
  int32_t sums[kPixels][4];
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kPixels; ++p) vst1q_s32(sums[p], acc[p]);
  store_cell_pixels(args, requantize, sums[0], i, j, channel, pixels);
}

/// Computes the pixels [begin, end) of `kRows` rows from i on, 16 channels, from their columns.
template <size_t kRows>
void run(const DepthwiseArgs& args, const NeonRequantize& requantize, const Columns& columns,
         size_t i, size_t begin, size_t end, size_t channel) {
  const int8_t* block = args.w + channel * args.kernel_w * columns.groups * kKr;
  for (size_t vector = 0; vector < 4 && channel + 4 * vector < args.channels; ++vector) {
    const size_t own_channel = channel + 4 * vector;
    const int32x4_t bias = vld1q_s32(args.bias + own_channel);
    for (size_t j = begin; j < end; j += kPixels) {
      int32x4_t acc[kRows][kPixels];
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) {
        EDGEKIT_UNROLL
        for (size_t p = 0; p < kPixels; ++p) acc[r][p] = bias;
      }
      accumulate(args, columns, vector, (j - begin) * args.stride_w, block + 4 * kKr * vector, acc);
      const size_t pixels = end - j < kPixels ? end - j : kPixels;
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) {
        store_pixels(args, requantize, acc[r], i + r, j, own_channel, pixels);
      }
    }
  }
}

/// Computes row i by interleaving each pixel's taps for itself: for kernels too large for scratch.
void run_unshared(const DepthwiseArgs& args, const NeonRequantize& requantize, size_t i,
                  size_t channel) {
  const size_t groups = (args.kernel_h + kKr - 1) / kKr;
  const uint8_t* const* rows = args.rows + i * args.stride_h;
  for (size_t j = 0; j < args.out_width; ++j) {
    const int8_t* w = args.w + channel * args.kernel_w * groups * kKr;
    Sums16 acc = load_sums(args.bias + channel);
    for (size_t s = 0; s < args.kernel_w; ++s) {
      const size_t column = j * args.stride_w + s * args.dilation_w;
      for (size_t group = 0; group < groups; ++group, w += kCr * kKr) {
        int8x16_t x[kKr];
        EDGEKIT_UNROLL
        for (size_t q = 0; q < kKr; ++q) {
          const uint8_t* row = tap_row(args, rows, group * kKr + q, args.kernel_h);
          x[q] = load_codes(tap(args, row, column, channel));
        }
        int8x16_t out[4];
        interleave(x[0], x[1], x[2], x[3], out);
        EDGEKIT_UNROLL
        for (size_t v = 0; v < 4; ++v) acc.v[v] = vdotq_s32(acc.v[v], out[v], vld1q_s8(w + 16 * v));
      }
    }
    int32_t sums[kCr];
    EDGEKIT_UNROLL
    for (size_t v = 0; v < 4; ++v) vst1q_s32(sums + 4 * v, acc.v[v]);
    store_pixel(args, args.channels, requantize, sums, i, j, channel);
  }
}

}  // namespace

void depthwise_s8_s8c_s8_arm_neondot(const DepthwiseArgs& args) {
  if (is_square<3, 1>(args)) return run_cells<3, 1>(args);
  if (is_square<3, 2>(args)) return run_cells<3, 2>(args);
  if (is_square<5, 1>(args)) return run_cells<5, 1>(args);
  if (is_square<5, 2>(args)) return run_cells<5, 2>(args);
  const NeonRequantize requantize(args.requantize);
  const size_t groups = (args.kernel_h + kKr - 1) / kKr;
  const size_t span = (args.kernel_w - 1) * args.dilation_w + 1;
  const size_t capacity = kScratchColumns / groups;
  if (capacity < span + (kPixels - 1) * args.stride_w) {
    for (size_t i = 0; i < args.out_rows; ++i) {
      for (size_t channel = 0; channel < args.channels; channel += kCr) {
        run_unshared(args, requantize, i, channel);
      }
    }
    return;
  }

  // Two rows share their columns where the lower one's taps are the upper one's, one row on, and
  // the group has room for its last tap.
  const bool in_pairs = args.stride_h == 1 && args.dilation_h == 1 && args.kernel_h % kKr != 0;
  const size_t longest = ((capacity - span) / args.stride_w + 1) / kPixels * kPixels;
  alignas(64) int8_t scratch[kScratchColumns * kCr * kKr];
  for (size_t i = 0; i < args.out_rows;) {
    const size_t count = in_pairs && i + 2 <= args.out_rows ? 2 : 1;
    const uint8_t* const* rows = args.rows + i * args.stride_h;
    for (size_t begin = 0; begin < args.out_width; begin += longest) {
      const size_t end = args.out_width - begin < longest ? args.out_width : begin + longest;
      const size_t tiles = (end - begin + kPixels - 1) / kPixels;
      const Columns columns{scratch, (tiles * kPixels - 1) * args.stride_w + span, groups};
      for (size_t channel = 0; channel < args.channels; channel += kCr) {
        fill(args, rows, args.kernel_h + count - 1, begin * args.stride_w, channel, columns);
        (count == 2 ? run<2> : run<1>)(args, requantize, columns, i, begin, end, channel);
      }
    }
    i += count;
  }
}

}  // namespace edgekit
