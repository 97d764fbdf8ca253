#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/depthwise.h"
#include "kernels/depthwise/four_taps_x86.h"
#include "kernels/depthwise/slide_parts_x86.h"
#include "kernels/requantize_x86_avx2.h"

// 3x3 and 5x5 with stride 1 or 2 slide. For other windows half a tile is 16 channels of 1 output
// row by 6 pixels, or 2 by 3: 12 accumulators, 2 of weights, 1 of input.

namespace edgekit {
namespace {

struct Ymm {
  using Vector = __m256i;
  static constexpr size_t kCr = 32;
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

  /// The same with weights in memory, at w + kOffset, of whose kSize bytes they are a part.
  template <size_t kOffset, size_t kSize>
  static void dot_memory(__m256i& acc_s32x8, __m256i x_u8x32, const int8_t* w) {
    __asm__("%{vex%} vpdpbusd %c3(%2), %1, %0"
            : "+x"(acc_s32x8)
            : "x"(x_u8x32), "r"(w), "i"(kOffset),
              "m"(*reinterpret_cast<const int8_t (*)[kSize]>(w)));
  }

  static __m256i move_down(__m256i w_s8x32, __m256i above_s8x32) {
    return _mm256_or_si256(_mm256_slli_epi32(w_s8x32, 8), _mm256_srli_epi32(above_s8x32, 24));
  }

  static void interleave(const uint8_t* const* rows, size_t offset, uint8_t* to) {
    const __m256i row_0 = load(rows[0] + offset);
    const __m256i row_1 = load(rows[1] + offset);
    const __m256i row_2 = load(rows[2] + offset);
    const __m256i row_3 = load(rows[3] + offset);
    const __m256i low_01 = _mm256_unpacklo_epi8(row_0, row_1);
    const __m256i low_23 = _mm256_unpacklo_epi8(row_2, row_3);
    const __m256i high_01 = _mm256_unpackhi_epi8(row_0, row_1);
    const __m256i high_23 = _mm256_unpackhi_epi8(row_2, row_3);
    store(to, _mm256_unpacklo_epi16(low_01, low_23));
    store(to + kCr, _mm256_unpackhi_epi16(low_01, low_23));
    store(to + 2 * kCr, _mm256_unpacklo_epi16(high_01, high_23));
    store(to + 3 * kCr, _mm256_unpackhi_epi16(high_01, high_23));
  }

  static constexpr size_t kTaps = FourTaps::kKr;
  static constexpr size_t kMaxSums = 12;
  static constexpr size_t kMaxWeights = 5;

  static size_t lanes(const DepthwiseArgs& /*args*/, size_t /*channel*/) { return kCr / 16; }

  static __m256i weights(const DepthwiseArgs& args, const int8_t* w, size_t s, size_t group,
                         size_t part, size_t /*lanes*/) {
    const size_t groups = (args.kernel_h + kTaps - 1) / kTaps;
    return load(w + ((s * groups + group) * FourTaps::kParts + part) * kCr);
  }

  /// Interleaves four vectors, or three, the last of which stands for a fourth.
  template <size_t kPart, size_t kRows, size_t kParts>
  static void interleave(const __m256i (&from_u8x32)[kRows], __m256i (&x_u8x32)[kParts][1]) {
    const auto bytes = [](__m256i a, __m256i b) {
      return kPart < 2 ? _mm256_unpacklo_epi8(a, b) : _mm256_unpackhi_epi8(a, b);
    };
    const __m256i v_01 = bytes(from_u8x32[0], from_u8x32[1]);
    const __m256i v_23 = bytes(from_u8x32[2], from_u8x32[kRows - 1]);
#pragma GCC unroll 2
    for (size_t i = 0; i < kParts; ++i) {
      x_u8x32[i][0] = (kPart + i) % 2 == 0 ? _mm256_unpacklo_epi16(v_01, v_23)
                                           : _mm256_unpackhi_epi16(v_01, v_23);
    }
  }

  static __m256i splat(uint8_t byte) { return _mm256_set1_epi8(static_cast<int8_t>(byte)); }

  static bool products_fit(const DepthwiseArgs& args) {
    return products_fit_int32(args.requantize.scale, args.channels);
  }

  static __m256i splat_words(int32_t value) {
    return _mm256_set1_epi16(static_cast<int16_t>(value));
  }

  static __m256i words(__m256i acc_0_s32x8, __m256i acc_1_s32x8, const float* scale,
                       __m256i zero_point_s16x16) {
    const __m256 v_0 = _mm256_mul_ps(_mm256_cvtepi32_ps(acc_0_s32x8), _mm256_loadu_ps(scale));
    const __m256 v_1 =
        _mm256_mul_ps(_mm256_cvtepi32_ps(acc_1_s32x8), _mm256_loadu_ps(scale + kCr / 4));
    return _mm256_adds_epi16(_mm256_packs_epi32(_mm256_cvtps_epi32(v_0), _mm256_cvtps_epi32(v_1)),
                             zero_point_s16x16);
  }

  struct Bytes {
    explicit Bytes(const Requantize& requantize) : constants(requantize_pairs(requantize)) {}

    void store(uint8_t* y, __m256i words_0_s16x16, __m256i words_1_s16x16, size_t count) const {
      const __m256i bytes = join_words(constants, words_0_s16x16, words_1_s16x16);
      if (count >= kCr) return _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), bytes);
      alignas(32) uint8_t all[kCr];
      _mm256_store_si256(reinterpret_cast<__m256i*>(all), bytes);
      copy_some(y, all, count);
    }

    RequantizePairs constants;
  };

  static void store_sums(const DepthwiseArgs& args, size_t i, size_t j, size_t channel,
                         const int32_t* sums) {
    const size_t pixel = j * args.channels + channel;
    const size_t left = args.channels - channel;
    const uint8_t* residual = args.requantize.residual;
    if (residual != nullptr) residual += i * args.requantize.residual_stride + pixel;
    const __m256i low = _mm256_loadu2_m128i(at(sums + kCr / 4), at(sums));
    const __m256i high = _mm256_loadu2_m128i(at(sums + 3 * kCr / 4), at(sums + 2 * kCr / 4));
    requantize_store(args.requantize, low, high, channel, residual,
                     args.y + i * args.y_stride + pixel, left < 16 ? left : 16);
  }

 private:
  static const __m128i* at(const int32_t* x) { return reinterpret_cast<const __m128i*>(x); }
};

}  // namespace

void depthwise_u8_s8c_u8_x86_avxvnni(const DepthwiseArgs& args) {
  const auto slide = find_slide<Ymm>(args);
  if (slide != nullptr) return slide(args);
  run_four_taps<Ymm>(args);
}

}  // namespace edgekit
