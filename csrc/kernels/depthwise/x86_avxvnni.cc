#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/depthwise.h"
#include "kernels/depthwise/four_taps_x86.h"
#include "kernels/requantize_x86_avx2.h"

// 8 channels of four taps are one register. A tile is 1 output row by 6 pixels or 2 by 3: 12
// accumulators, 2 of weights, 1 of input.

namespace edgekit {
namespace {

struct Ymm {
  using Vector = __m256i;
  static constexpr size_t kParts = 2;
  template <size_t kRows>
  static constexpr size_t kTile = 6 / kRows;

  static __m256i load(const void* from) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(from));
  }

  static void store(void* to, __m256i v) { _mm256_store_si256(static_cast<__m256i*>(to), v); }

  /// In the encoding that needs no AVX-512.
  static void dot(__m256i& acc_s32x8, __m256i x_u8x32, __m256i w_s8x32) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc_s32x8) : "x"(x_u8x32), "x"(w_s8x32));
  }

  static __m256i move_down(__m256i w_s8x32, __m256i above_s8x32) {
    return _mm256_or_si256(_mm256_slli_epi32(w_s8x32, 8), _mm256_srli_epi32(above_s8x32, 24));
  }

  /// First bytes of rows 0 and 1, and of 2 and 3, then their pairs.
  static void interleave(const uint8_t* const* rows, size_t offset, uint8_t* to) {
    const __m256i rows_02 = _mm256_loadu2_m128i(at(rows[2] + offset), at(rows[0] + offset));
    const __m256i rows_13 = _mm256_loadu2_m128i(at(rows[3] + offset), at(rows[1] + offset));
    const __m256i pairs = _mm256_setr_epi8(0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15,  //
                                           0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15);
    const auto interleave_pairs = [&](__m256i bytes, uint8_t* out) {
      store(out, _mm256_shuffle_epi8(_mm256_permute4x64_epi64(bytes, 0xD8), pairs));
    };
    interleave_pairs(_mm256_unpacklo_epi8(rows_02, rows_13), to);
    interleave_pairs(_mm256_unpackhi_epi8(rows_02, rows_13), to + 32);
  }

  static bool products_fit(const DepthwiseArgs& args) {
    return products_fit_int32(args.requantize.scale, args.channels);
  }

  static void store_pixel(const DepthwiseArgs& args, size_t i, size_t j, size_t channel,
                          const __m256i* acc_s32x8) {
    const size_t pixel = j * args.channels + channel;
    const size_t left = args.channels - channel;
    const uint8_t* residual = args.requantize.residual;
    if (residual != nullptr) residual += i * args.requantize.residual_stride + pixel;
    requantize_store(args.requantize, acc_s32x8[0], acc_s32x8[1], channel, residual,
                     args.y + i * args.y_stride + pixel,
                     left < FourTaps::kCr ? left : FourTaps::kCr);
  }

  template <size_t kRows, size_t kPixels>
  static void store_tile(const DepthwiseArgs& args, size_t i, size_t j, size_t channel,
                         const __m256i (&acc_s32x8)[kRows][kPixels][kParts]) {
    const RequantizePairs constants = requantize_pairs(args.requantize);
    const float* scale = args.requantize.scale + channel;
    const size_t left = args.channels - channel;
    constexpr size_t kCount = kRows * kPixels;
#pragma GCC unroll 8
    for (size_t first = 0; first < kCount; first += 2) {
      const size_t second = first + 1 < kCount ? first + 1 : first;
      const __m256i bytes =
          requantize_pair(constants, scale, acc_s32x8[first / kPixels][first % kPixels],
                          acc_s32x8[second / kPixels][second % kPixels]);
      const __m128i codes[] = {_mm256_castsi256_si128(bytes), _mm256_extracti128_si256(bytes, 1)};
#pragma GCC unroll 2
      for (size_t n = first; n <= second; ++n) {
        uint8_t* y = args.y + (i + n / kPixels) * args.y_stride +
                     (j + n % kPixels) * args.channels + channel;
        store_codes(y, codes[n - first], left);
      }
    }
  }

 private:
  static const __m128i* at(const uint8_t* x) { return reinterpret_cast<const __m128i*>(x); }

  /// Stores the first `left` of 16 codes.
  static void store_codes(uint8_t* y, __m128i codes, size_t left) {
    if (left >= FourTaps::kCr) return _mm_storeu_si128(reinterpret_cast<__m128i*>(y), codes);
    alignas(16) uint8_t bytes[FourTaps::kCr];
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes), codes);
    copy_bytes(y, bytes, left);
  }
};

}  // namespace

void depthwise_u8_s8c_u8_x86_avxvnni(const DepthwiseArgs& args) { run_four_taps<Ymm>(args); }

}  // namespace edgekit
