#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/depthwise.h"
#include "kernels/depthwise/slide_parts_x86.h"
#include "kernels/requantize_x86_avx2.h"

// Two vertical taps of 16 channels, widened to 16 bits, make two operands of vpmaddwd, which is
// exact for any weights:
//
//   column x:   dword c = x[row 0][c], x[row 1][c]        0 <= c < 8 and 8 <= c < 16
//
// 3x3 and 5x5 with stride 1 or 2 slide. For other windows each column of the input is interleaved
// once into scratch on the stack, 64 bytes for each pair of rows, and then read by all kernel_w
// taps. A tile is 5 pixels of one row: 10 accumulators, 2 of weights, 2 of products.

namespace edgekit {
namespace {

constexpr size_t kCr = 16;
constexpr size_t kKr = 2;
constexpr size_t kColumnBytes = 64;
constexpr size_t kWeightBytes = kCr * kKr;
constexpr size_t kTile = 5;
/// Interleaved columns that fit the scratch, counted for all pairs of rows together: 16 KiB.
constexpr size_t kColumns = 256;

size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

inline __m128i load16(const void* from) {
  return _mm_loadu_si128(static_cast<const __m128i*>(from));
}

/// Sixteen channels of two rows, interleaved and widened.
struct Column {
  __m256i low_u16x16;
  __m256i high_u16x16;
};

inline Column interleave(const uint8_t* row_0, const uint8_t* row_1) {
  const __m128i x_0 = load16(row_0);
  const __m128i x_1 = load16(row_1);
  return {_mm256_cvtepu8_epi16(_mm_unpacklo_epi8(x_0, x_1)),
          _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(x_0, x_1))};
}

/// The two rows of a pair; a second one past the last tap meets zero weights and repeats the first.
struct RowPair {
  const uint8_t* row_0;
  const uint8_t* row_1;
};

inline RowPair row_pair(const DepthwiseArgs& args, const uint8_t* const* rows, size_t pair) {
  const size_t tap = pair * kKr;
  const size_t next = tap + 1 < args.kernel_h ? tap + 1 : tap;
  return {rows[tap * args.dilation_h], rows[next * args.dilation_h]};
}

/// Interleaves `count` input columns from `first` (which wraps around left of the row) into
/// scratch, kColumns / pairs columns a pair of rows apart.
void interleave_columns(const DepthwiseArgs& args, const uint8_t* const* rows, size_t pairs,
                        size_t channel, size_t first, size_t count, uint8_t* scratch) {
  for (size_t pair = 0; pair < pairs; ++pair) {
    const RowPair from = row_pair(args, rows, pair);
    uint8_t* to = scratch + pair * (kColumns / pairs) * kColumnBytes;
    for (size_t x = first; x != first + count; ++x, to += kColumnBytes) {
      const bool inside = x < args.in_width;
      const size_t offset = (inside ? x * args.channels : 0) + channel;
      const Column column = interleave((inside ? from.row_0 : args.zero) + offset,
                                       (inside ? from.row_1 : args.zero) + offset);
      _mm256_store_si256(reinterpret_cast<__m256i*>(to), column.low_u16x16);
      _mm256_store_si256(reinterpret_cast<__m256i*>(to) + 1, column.high_u16x16);
    }
  }
}

/// acc[c] += x[row 0][c] * w[0][c] + x[row 1][c] * w[1][c]
inline void dot(__m256i* acc_s32x8, __m256i x_u16x16, __m256i w_s16x16) {
  *acc_s32x8 = _mm256_add_epi32(*acc_s32x8, _mm256_madd_epi16(x_u16x16, w_s16x16));
}

/// Requantizes and stores one pixel's channels.
inline void store_pixel(const DepthwiseArgs& args, size_t i, size_t j, size_t channel, __m256i low,
                        __m256i high) {
  const size_t pixel = j * args.channels + channel;
  const uint8_t* residual = args.requantize.residual;
  if (residual != nullptr) residual += i * args.requantize.residual_stride + pixel;
  requantize_store(args.requantize, low, high, channel, residual,
                   args.y + i * args.y_stride + pixel, min_size(kCr, args.channels - channel));
}

/// Computes kPixels pixels from j of output row i; `x` is the scratch of pixel j's first column.
template <int kPixels>
void tile(const DepthwiseArgs& args, const int8_t* w, size_t pairs, const uint8_t* x, size_t i,
          size_t j, size_t channel) {
  const __m256i* bias = reinterpret_cast<const __m256i*>(args.bias + channel);
  __m256i low[kPixels];
  __m256i high[kPixels];
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
    low[p] = _mm256_loadu_si256(bias);
    high[p] = _mm256_loadu_si256(bias + 1);
  }
  const size_t pair_bytes = kColumns / pairs * kColumnBytes;
  const size_t pixel_bytes = args.stride_w * kColumnBytes;
  for (size_t s = 0; s < args.kernel_w; ++s) {
    const uint8_t* column = x + s * args.dilation_w * kColumnBytes;
    for (size_t pair = 0; pair < pairs; ++pair, column += pair_bytes, w += kWeightBytes) {
      const __m256i w_low = _mm256_cvtepi8_epi16(load16(w));
      const __m256i w_high = _mm256_cvtepi8_epi16(load16(w + 16));
#pragma GCC unroll 8
      for (int p = 0; p < kPixels; ++p) {
        const auto* x_p =
            reinterpret_cast<const __m256i*>(column + static_cast<size_t>(p) * pixel_bytes);
        dot(&low[p], _mm256_load_si256(x_p), w_low);
        dot(&high[p], _mm256_load_si256(x_p + 1), w_high);
      }
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
    store_pixel(args, i, j + static_cast<size_t>(p), channel, low[p], high[p]);
  }
}

/// Computes one block of channels of output row i, `chunk` pixels at a time.
void run_row(const DepthwiseArgs& args, const int8_t* w, size_t pairs, size_t i, size_t channel,
             size_t chunk, uint8_t* scratch) {
  for (size_t begin = 0; begin < args.out_width; begin += chunk) {
    const size_t count = min_size(chunk, args.out_width - begin);
    const size_t span = (count - 1) * args.stride_w + (args.kernel_w - 1) * args.dilation_w + 1;
    interleave_columns(args, args.rows + i * args.stride_h, pairs, channel,
                       begin * args.stride_w - args.pad_left, span, scratch);
    const auto x = [&](size_t p) { return scratch + p * args.stride_w * kColumnBytes; };
    size_t p = 0;
    for (; p + kTile <= count; p += kTile) {
      tile<kTile>(args, w, pairs, x(p), i, begin + p, channel);
    }
    for (; p < count; ++p) tile<1>(args, w, pairs, x(p), i, begin + p, channel);
  }
}

/// Computes one block of channels of output row i without scratch, for kernels that are too wide.
void run_wide_row(const DepthwiseArgs& args, const int8_t* block, size_t pairs, size_t i,
                  size_t channel) {
  const __m256i* bias = reinterpret_cast<const __m256i*>(args.bias + channel);
  for (size_t j = 0; j < args.out_width; ++j) {
    __m256i low = _mm256_loadu_si256(bias);
    __m256i high = _mm256_loadu_si256(bias + 1);
    const int8_t* w = block;
    for (size_t s = 0; s < args.kernel_w; ++s) {
      const size_t x = j * args.stride_w + s * args.dilation_w - args.pad_left;
      const bool inside = x < args.in_width;
      const size_t offset = (inside ? x * args.channels : 0) + channel;
      for (size_t pair = 0; pair < pairs; ++pair, w += kWeightBytes) {
        const RowPair from = row_pair(args, args.rows + i * args.stride_h, pair);
        const Column column = interleave((inside ? from.row_0 : args.zero) + offset,
                                         (inside ? from.row_1 : args.zero) + offset);
        dot(&low, column.low_u16x16, _mm256_cvtepi8_epi16(load16(w)));
        dot(&high, column.high_u16x16, _mm256_cvtepi8_epi16(load16(w + 16)));
      }
    }
    store_pixel(args, i, j, channel, low, high);
  }
}

/// What SlideParts asks for: pairs of 32 channels, which are two blocks of weights.
struct Pairs {
  static constexpr size_t kTaps = kKr;
  static constexpr size_t kMaxSums = 12;
  static constexpr size_t kMaxWeights = 0;

  static size_t lanes(const DepthwiseArgs& args, size_t channel) {
    return args.channels - channel > kCr ? 2 : 1;
  }

  static __m256i weights(const DepthwiseArgs& args, const int8_t* w, size_t s, size_t group,
                         size_t part, size_t lanes) {
    const size_t groups = (args.kernel_h + kKr - 1) / kKr;
    w += ((s * groups + group) * kCr + part * 4) * kKr;
    const __m128i low = load8(w);
    const __m128i high =
        lanes == 2 ? load8(w + args.kernel_w * groups * kWeightBytes) : _mm_setzero_si128();
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi64(low, high));
  }

  /// Interleaves and widens each two of kRows vectors.
  template <size_t kPart, size_t kRows, size_t kParts>
  static void interleave(const __m256i (&from_u8x32)[kRows],
                         __m256i (&x_u16x16)[kParts][kRows / 2]) {
    const __m256i zero = _mm256_setzero_si256();
#pragma GCC unroll 2
    for (size_t v = 0; v < kRows / 2; ++v) {
      const __m256i even = from_u8x32[2 * v];
      const __m256i odd = from_u8x32[2 * v + 1];
      const __m256i both =
          kPart < 2 ? _mm256_unpacklo_epi8(even, odd) : _mm256_unpackhi_epi8(even, odd);
#pragma GCC unroll 2
      for (size_t i = 0; i < kParts; ++i) {
        x_u16x16[i][v] = (kPart + i) % 2 == 0 ? _mm256_unpacklo_epi8(both, zero)
                                              : _mm256_unpackhi_epi8(both, zero);
      }
    }
  }

  template <size_t kOffset, size_t kSize>
  static void dot_memory(__m256i& acc_s32x8, __m256i x_u16x16, const int8_t* w) {
    const __m256i w_s16x16 = _mm256_load_si256(reinterpret_cast<const __m256i*>(w + kOffset));
    const __m256i products_s32x8 = _mm256_madd_epi16(x_u16x16, w_s16x16);
    // GCC would add in another order, which takes more registers than there are.
    __asm__("vpaddd %1, %0, %0" : "+x"(acc_s32x8) : "x"(products_s32x8));
  }

  static __m256i splat(uint8_t byte) { return _mm256_set1_epi16(byte); }

 private:
  static __m128i load8(const int8_t* from) {
    return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  }
};

}  // namespace

void depthwise_u8_s8c_u8_x86_avx2(const DepthwiseArgs& args) {
  const auto slide = find_slide<Pairs>(args);
  if (slide != nullptr) return slide(args);
  alignas(32) uint8_t scratch[kColumns * kColumnBytes];
  const size_t pairs = (args.kernel_h + kKr - 1) / kKr;
  const size_t capacity = kColumns / pairs;
  const size_t reach = (args.kernel_w - 1) * args.dilation_w + 1;
  const size_t chunk = capacity >= reach ? (capacity - reach) / args.stride_w + 1 : 0;
  for (size_t i = 0; i < args.out_rows; ++i) {
    const int8_t* w = args.w;
    for (size_t channel = 0; channel < args.channels; channel += kCr) {
      if (chunk == 0) {
        run_wide_row(args, w, pairs, i, channel);
      } else {
        run_row(args, w, pairs, i, channel, chunk, scratch);
      }
      w += args.kernel_w * pairs * kWeightBytes;
    }
  }
}

}  // namespace edgekit
