#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/requantize_x86_avx2.h"
#include "kernels/shallow/shallow.h"

// Two bytes of a window's row, widened to 16 bits, are broadcast and meet two weights of each of 16
// output channels in vpmaddwd, which is exact for any weights. Rows are widened once into scratch
// on the stack. A tile is 5 pixels of one row: 10 accumulators, 2 of weights, 1 of input, 1 of
// products.

namespace edgekit {
namespace {

constexpr size_t kNr = 16;
constexpr size_t kKr = 2;
constexpr size_t kWeightBytes = kNr * kKr;
constexpr size_t kTile = 5;
/// Widened bytes that fit the scratch, counted for all rows of a window together: 16 KiB.
constexpr size_t kScratch = 8192;
/// Bytes that are widened at once.
constexpr size_t kWidened = 16;
static_assert(kScratch / kMaxShallowHeight >= kMaxShallowRow + kWidened);

struct Block {
  const ShallowArgs& args;
  /// Multiplications of a window's row.
  size_t pairs;
  /// Elements between the widened rows.
  size_t row_step;
  /// Elements between the windows of neighbouring pixels.
  size_t step;
};

size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/// Widens the bytes that `count` pixels from j of output row i need.
void widen_rows(const Block& block, size_t i, size_t j, size_t count, uint16_t* scratch) {
  const ShallowArgs& args = block.args;
  const size_t size = (count - 1) * block.step + block.pairs * kKr;
  for (size_t r = 0; r < args.kernel_h; ++r, scratch += block.row_step) {
    const uint8_t* x = args.rows[i * args.stride_h + r * args.dilation_h] + j * block.step;
    for (size_t b = 0; b < size; b += kWidened) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + b));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(scratch + b), _mm256_cvtepu8_epi16(bytes));
    }
  }
}

inline __m256i load_weights(const int8_t* w) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
}

/// Repeats two widened bytes. The intrinsic makes GCC go through a general register.
inline __m256i broadcast_pair(const uint16_t* x) {
  __m256i two;
  __asm__("vpbroadcastd %1, %0" : "=x"(two) : "m"(*reinterpret_cast<const uint16_t (*)[2]>(x)));
  return two;
}

/// Computes kPixels pixels from j of output row i, channels o to o + 15; `x` is the widened window
/// of pixel j.
template <size_t kPixels>
void tile(const Block& block, const int8_t* w, const uint16_t* x, size_t i, size_t j, size_t o) {
  const ShallowArgs& args = block.args;
  const __m256i* bias = reinterpret_cast<const __m256i*>(args.bias + o);
  __m256i low[kPixels];
  __m256i high[kPixels];
#pragma GCC unroll 8
  for (size_t p = 0; p < kPixels; ++p) {
    low[p] = _mm256_loadu_si256(bias);
    high[p] = _mm256_loadu_si256(bias + 1);
  }
  for (size_t r = 0; r < args.kernel_h; ++r, x += block.row_step) {
    for (size_t pair = 0; pair < block.pairs; ++pair, w += kWeightBytes) {
      const __m256i w_low = load_weights(w);
      const __m256i w_high = load_weights(w + kWeightBytes / 2);
      const uint16_t* x_p = x + pair * kKr;
#pragma GCC unroll 8
      for (size_t p = 0; p < kPixels; ++p, x_p += block.step) {
        const __m256i two = broadcast_pair(x_p);
        low[p] = _mm256_add_epi32(low[p], _mm256_madd_epi16(two, w_low));
        high[p] = _mm256_add_epi32(high[p], _mm256_madd_epi16(two, w_high));
      }
    }
  }
  const uint8_t* residual = args.requantize.residual;
  const size_t count = min_size(kNr, args.n - o);
#pragma GCC unroll 8
  for (size_t p = 0; p < kPixels; ++p) {
    const size_t pixel = (j + p) * args.n + o;
    requantize_store(
        args.requantize, low[p], high[p], o,
        residual == nullptr ? nullptr : residual + i * args.requantize.residual_stride + pixel,
        args.y + i * args.y_stride + pixel, count);
  }
}

}  // namespace

void shallow_u8_s8c_u8_x86_avx2(const ShallowArgs& args) {
  alignas(32) uint16_t scratch[kScratch];
  const size_t pairs = (args.kernel_w * args.channels + kKr - 1) / kKr;
  const size_t row_step = kScratch / args.kernel_h;
  const Block block{args, pairs, row_step, args.stride_w * args.channels};
  const size_t chunk = (row_step - pairs * kKr - kWidened) / block.step + 1;
  for (size_t i = 0; i < args.out_rows; ++i) {
    for (size_t begin = 0; begin < args.out_width; begin += chunk) {
      const size_t count = min_size(chunk, args.out_width - begin);
      widen_rows(block, i, begin, count, scratch);
      const int8_t* w = args.w;
      for (size_t o = 0; o < args.n; o += kNr, w += args.kernel_h * pairs * kWeightBytes) {
        size_t p = 0;
        for (; p + kTile <= count; p += kTile) {
          tile<kTile>(block, w, scratch + p * block.step, i, begin + p, o);
        }
        for (; p < count; ++p) tile<1>(block, w, scratch + p * block.step, i, begin + p, o);
      }
    }
  }
}

}  // namespace edgekit
