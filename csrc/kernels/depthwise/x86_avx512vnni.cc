#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/depthwise.h"
#include "kernels/requantize_x86_avx512vnni.h"

// Four vertical taps of 16 channels make one operand of vpdpbusd:
//
//   column x:   dword c = x[row 0][c], x[row 1][c], x[row 2][c], x[row 3][c]        0 <= c < 16
//
// Each column of the input is interleaved once into scratch on the stack, one vector for each group
// of four rows, and then read by all kernel_w taps. Where a group has a row to spare (3x3 and 5x5
// with stride 1), the same vectors serve the output row below, with weights moved down by one tap:
//
//   output row i:      w0 w1 w2 0          output row i + 1:      0 w0 w1 w2
//
// A tile is 1 or 2 output rows by 7 pixels: 14 accumulators, 2 of weights, 1 of input.

namespace edgekit {
namespace {

constexpr size_t kCr = 16;
constexpr size_t kKr = 4;
constexpr size_t kVector = 64;
constexpr size_t kTile = 7;
/// Interleaved columns that fit the scratch, counted for all groups together: 16 KiB.
constexpr size_t kColumns = 256;
/// Weight vectors of one channel block that can be moved down for the second output row: 4 KiB.
constexpr size_t kMovedWeights = 64;

size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/// acc[c] += sum over 4 of x (u8) * w (s8). The intrinsic makes GCC 12 spill the accumulators.
inline void dot(__m512i& acc_s32x16, __m512i x_u8x64, __m512i w_s8x64) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc_s32x16) : "v"(x_u8x64), "v"(w_s8x64));
}

inline __m128i load16(const uint8_t* x) {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
}

/// Interleaves 16 channels of four rows: first dwords between the 128-bit lanes, then bytes within.
inline __m512i interleave(const uint8_t* const* rows, size_t offset) {
  const __m512i dwords = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m512i bytes =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  __m512i x = _mm512_broadcast_i32x4(load16(rows[0] + offset));
  x = _mm512_mask_broadcast_i32x4(x, 0x00F0, load16(rows[1] + offset));
  x = _mm512_mask_broadcast_i32x4(x, 0x0F00, load16(rows[2] + offset));
  x = _mm512_mask_broadcast_i32x4(x, 0xF000, load16(rows[3] + offset));
  return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(dwords, x), bytes);
}

/// What a call is made of, less the block of channels and the output row.
struct Shape {
  const DepthwiseArgs& args;
  /// Groups of four rows that cover kernel_h taps.
  size_t groups;
  /// Rows that one output row, or two, need: kernel_h or kernel_h + 1.
  size_t taps;
};

/// Points to four rows of `group`; those past the last tap meet zero weights and repeat the first.
inline void group_rows(const Shape& shape, const uint8_t* const* rows, size_t group,
                       const uint8_t** four) {
  for (size_t l = 0; l < kKr; ++l) {
    const size_t tap = group * kKr + l;
    four[l] = rows[tap < shape.taps ? tap * shape.args.dilation_h : 0];
  }
}

/// Interleaves `count` input columns from `first` (which wraps around left of the row) into
/// scratch, kColumns / groups vectors a group apart.
void interleave_columns(const Shape& shape, const uint8_t* const* rows, size_t channel,
                        size_t first, size_t count, uint8_t* scratch) {
  const DepthwiseArgs& args = shape.args;
  const uint8_t* zero[kKr] = {args.zero, args.zero, args.zero, args.zero};
  const __m512i outside = interleave(zero, channel);
  const size_t group_bytes = kColumns / shape.groups * kVector;
  for (size_t group = 0; group < shape.groups; ++group) {
    const uint8_t* four[kKr];
    group_rows(shape, rows, group, four);
    uint8_t* to = scratch + group * group_bytes;
    for (size_t x = first; x != first + count; ++x, to += kVector) {
      const bool inside = x < args.in_width;
      _mm512_store_si512(to, inside ? interleave(four, x * args.channels + channel) : outside);
    }
  }
}

/// Moves one block's weights down by a tap, from each group into the next.
void move_weights(const Shape& shape, const int8_t* w, int8_t* moved) {
  for (size_t s = 0; s < shape.args.kernel_w; ++s) {
    __m512i above = _mm512_setzero_si512();
    for (size_t group = 0; group < shape.groups; ++group, w += kVector, moved += kVector) {
      const __m512i here = _mm512_loadu_si512(w);
      const __m512i carried = _mm512_srli_epi32(above, 24);
      _mm512_store_si512(moved, _mm512_or_si512(_mm512_slli_epi32(here, 8), carried));
      above = here;
    }
  }
}

/// Requantizes and stores one pixel's channels.
inline void store_pixel(const DepthwiseArgs& args, size_t i, size_t j, size_t channel,
                        __mmask16 lanes, __m512i acc) {
  const size_t pixel = j * args.channels + channel;
  const Requantize& requantize = args.requantize;
  const uint8_t* residual = requantize.residual;
  if (residual != nullptr) residual += i * requantize.residual_stride + pixel;
  const __m512i codes = requantize_lanes(requantize, acc, channel, residual, lanes);
  uint8_t* y = args.y + i * args.y_stride + pixel;
  if (lanes == 0xFFFF) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm512_cvtepi32_epi8(codes));
  } else {
    _mm_mask_storeu_epi8(y, lanes, _mm512_cvtepi32_epi8(codes));
  }
}

/// Stores a tile of accumulators with a residual; they come by way of memory.
__attribute__((noinline)) void store_accumulators(const DepthwiseArgs& args, size_t i, size_t rows,
                                                  size_t j, size_t columns, size_t channel,
                                                  const int32_t* accumulators) {
  const __mmask16 lanes = first_lanes(args.channels - channel);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t column = 0; column < columns; ++column, accumulators += kCr) {
      const __m512i acc = _mm512_load_si512(accumulators);
      store_pixel(args, i + r, j + column, channel, lanes, acc);
    }
  }
}

/// Computes output rows i and, if kRows is 2, i + 1, pixels j to j + kPixels - 1. `x` is the
/// scratch of pixel j's first column; `accumulators` is room for the tile.
template <int kRows, int kPixels>
__attribute__((noinline)) void tile(const Shape& shape, const int8_t* w, const int8_t* moved,
                                    const uint8_t* x, size_t i, size_t j, size_t channel,
                                    int32_t* accumulators) {
  const DepthwiseArgs& args = shape.args;
  __m512i acc[kRows][kPixels];
  const __m512i bias = _mm512_loadu_si512(args.bias + channel);
#pragma GCC unroll 2
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p) acc[r][p] = bias;
  }

  const size_t group_bytes = kColumns / shape.groups * kVector;
  const size_t pixel_bytes = args.stride_w * kVector;
  for (size_t s = 0; s < args.kernel_w; ++s) {
    const uint8_t* column = x + s * args.dilation_w * kVector;
    for (size_t group = 0; group < shape.groups; ++group) {
      const __m512i w_0 = _mm512_loadu_si512(w);
      const __m512i w_1 = kRows == 2 ? _mm512_load_si512(moved) : w_0;
#pragma GCC unroll 8
      for (int p = 0; p < kPixels; ++p) {
        const __m512i x_p = _mm512_load_si512(column + static_cast<size_t>(p) * pixel_bytes);
        dot(acc[0][p], x_p, w_0);
        if constexpr (kRows == 2) dot(acc[1][p], x_p, w_1);
      }
      column += group_bytes;
      w += kVector;
      if constexpr (kRows == 2) moved += kVector;
    }
  }

  const Requantize& requantize = args.requantize;
  if (requantize.residual != nullptr) {
#pragma GCC unroll 2
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (int p = 0; p < kPixels; ++p) {
        const int index = r * kPixels + p;
        _mm512_store_si512(accumulators + index * static_cast<int>(kCr), acc[r][p]);
      }
    }
    store_accumulators(args, i, kRows, j, kPixels, channel, accumulators);
    return;
  }
  const __mmask16 lanes = first_lanes(args.channels - channel);
  const __m512 scale = _mm512_loadu_ps(requantize.scale + channel);
  const __m512 lo = _mm512_set1_ps(requantize.lo);
  const __m512 hi = _mm512_set1_ps(requantize.hi);
  const __m512i zero_point = _mm512_set1_epi32(requantize.zero_point);
#pragma GCC unroll 2
  for (int r = 0; r < kRows; ++r) {
    uint8_t* y =
        args.y + (i + static_cast<size_t>(r)) * args.y_stride + j * args.channels + channel;
#pragma GCC unroll 8
    for (int p = 0; p < kPixels; ++p, y += args.channels) {
      const __m512i offsets = requantize_offsets(acc[r][p], scale, lo, hi);
      const __m128i codes = _mm512_cvtepi32_epi8(_mm512_add_epi32(offsets, zero_point));
      if (lanes == 0xFFFF) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(y), codes);
      } else {
        _mm_mask_storeu_epi8(y, lanes, codes);
      }
    }
  }
}

/// Room on the stack of one call.
struct Scratch {
  alignas(64) uint8_t columns[kColumns * kVector];
  alignas(64) int8_t moved[kMovedWeights * kVector];
  alignas(64) int32_t accumulators[2 * kTile * kCr];
};

/// Computes one block of channels of output rows i to i + kRows - 1, `chunk` pixels at a time.
template <int kRows>
void run_rows(const Shape& shape, const int8_t* w, size_t i, size_t channel, size_t chunk,
              Scratch& scratch) {
  const DepthwiseArgs& args = shape.args;
  const uint8_t* const* rows = args.rows + i * args.stride_h;
  if constexpr (kRows == 2) move_weights(shape, w, scratch.moved);
  for (size_t begin = 0; begin < args.out_width; begin += chunk) {
    const size_t count = min_size(chunk, args.out_width - begin);
    const size_t span = (count - 1) * args.stride_w + (args.kernel_w - 1) * args.dilation_w + 1;
    interleave_columns(shape, rows, channel, begin * args.stride_w - args.pad_left, span,
                       scratch.columns);
    size_t p = 0;
    while (p < count) {
      // The last pixels overlap the tile before.
      const bool full = count >= kTile;
      if (full) p = min_size(p, count - kTile);
      const uint8_t* x = scratch.columns + p * args.stride_w * kVector;
      if (full) {
        tile<kRows, kTile>(shape, w, scratch.moved, x, i, begin + p, channel, scratch.accumulators);
      } else {
        tile<kRows, 1>(shape, w, scratch.moved, x, i, begin + p, channel, scratch.accumulators);
      }
      p += full ? kTile : 1;
    }
  }
}

/// Computes one block of channels of output row i without scratch, for kernels that are too wide.
void run_wide_row(const Shape& shape, const int8_t* block, size_t i, size_t channel) {
  const DepthwiseArgs& args = shape.args;
  const uint8_t* const* rows = args.rows + i * args.stride_h;
  const __mmask16 lanes = first_lanes(args.channels - channel);
  for (size_t j = 0; j < args.out_width; ++j) {
    __m512i acc = _mm512_loadu_si512(args.bias + channel);
    const int8_t* w = block;
    for (size_t s = 0; s < args.kernel_w; ++s) {
      const size_t x = j * args.stride_w + s * args.dilation_w - args.pad_left;
      for (size_t group = 0; group < shape.groups; ++group, w += kVector) {
        const uint8_t* four[kKr] = {args.zero, args.zero, args.zero, args.zero};
        size_t offset = channel;
        if (x < args.in_width) {
          group_rows(shape, rows, group, four);
          offset += x * args.channels;
        }
        dot(acc, interleave(four, offset), _mm512_loadu_si512(w));
      }
    }
    store_pixel(args, i, j, channel, lanes, acc);
  }
}

}  // namespace

void depthwise_u8_s8c_u8_x86_avx512vnni(const DepthwiseArgs& args) {
  Scratch scratch;
  const size_t groups = (args.kernel_h + kKr - 1) / kKr;
  const Shape one_row{args, groups, args.kernel_h};
  const Shape two_rows{args, groups, args.kernel_h + 1};
  const size_t weights = args.kernel_w * groups;
  const bool row_to_spare = groups * kKr > args.kernel_h && args.stride_h == 1 &&
                            args.dilation_h == 1 && weights <= kMovedWeights;

  // The columns of `chunk` pixels fit the scratch; a chunk is made of whole tiles.
  const size_t capacity = kColumns / groups;
  const size_t reach = (args.kernel_w - 1) * args.dilation_w + 1;
  size_t chunk = 0;
  if (capacity >= reach) {
    chunk = ((capacity - reach) / args.stride_w + 1) / kTile * kTile;
  }

  for (size_t i = 0; i < args.out_rows;) {
    const bool pair = row_to_spare && chunk != 0 && i + 1 < args.out_rows;
    const int8_t* w = args.w;
    for (size_t channel = 0; channel < args.channels; channel += kCr) {
      if (chunk == 0) {
        run_wide_row(one_row, w, i, channel);
      } else if (pair) {
        run_rows<2>(two_rows, w, i, channel, chunk, scratch);
      } else {
        run_rows<1>(one_row, w, i, channel, chunk, scratch);
      }
      w += weights * kVector;
    }
    i += pair ? 2 : 1;
  }
}

}  // namespace edgekit
