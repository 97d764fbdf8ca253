#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/depthwise.h"
#include "kernels/depthwise/four_taps_x86.h"
#include "kernels/depthwise/slide_3x3_x86_avx512vnni.h"
#include "kernels/depthwise/slide_5x5_x86_avx512vnni.h"
#include "kernels/requantize_x86_avx512vnni.h"

// 3x3 and 5x5 with stride 1 or 2 slide. For other windows half a tile is 1 or 2 output rows by 7
// pixels by 32 channels: 28 accumulators, 2 of weights, 1 of input.

namespace edgekit {
namespace {

struct Zmm {
  using Vector = __m512i;
  static constexpr size_t kCr = 64;
  template <size_t kRows>
  static constexpr size_t kTile = 7;

  static __m512i load(const void* from) { return _mm512_loadu_si512(from); }

  /// A load that GCC does not repeat as an operand of each instruction that needs it: most of these
  /// cross cache lines.
  static __m512i load_once(const uint8_t* from) {
    __m512i v = load(from);
    __asm__("" : "+v"(v));
    return v;
  }

  static void store(void* to, __m512i v) { _mm512_store_si512(to, v); }

  /// The intrinsic makes GCC 12 spill the accumulators.
  static void dot(__m512i& acc_s32x16, __m512i x_u8x64, __m512i w_s8x64) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc_s32x16) : "v"(x_u8x64), "v"(w_s8x64));
  }

  /// The same with weights in memory, at a constant distance from w, of whose kSize bytes they are
  /// a part: GCC would keep every address in a register of its own, for which there is no room.
  template <size_t kOffset, size_t kSize>
  static void dot_memory(__m512i& acc_s32x16, __m512i x_u8x64, const int8_t* w) {
    __asm__("vpdpbusd %c3(%2), %1, %0"
            : "+v"(acc_s32x16)
            : "v"(x_u8x64), "r"(w), "i"(kOffset),
              "m"(*reinterpret_cast<const int8_t (*)[kSize]>(w)));
  }

  static __m512i move_down(__m512i w_s8x64, __m512i above_s8x64) {
    return _mm512_or_si512(_mm512_slli_epi32(w_s8x64, 8), _mm512_srli_epi32(above_s8x64, 24));
  }

  static void interleave(const uint8_t* const* rows, size_t offset, uint8_t* to) {
    const __m512i row_0 = load_once(rows[0] + offset);
    const __m512i row_1 = load_once(rows[1] + offset);
    const __m512i row_2 = load_once(rows[2] + offset);
    const __m512i row_3 = load_once(rows[3] + offset);
    const __m512i low_01 = _mm512_unpacklo_epi8(row_0, row_1);
    const __m512i low_23 = _mm512_unpacklo_epi8(row_2, row_3);
    const __m512i high_01 = _mm512_unpackhi_epi8(row_0, row_1);
    const __m512i high_23 = _mm512_unpackhi_epi8(row_2, row_3);
    store(to, _mm512_unpacklo_epi16(low_01, low_23));
    store(to + kCr, _mm512_unpackhi_epi16(low_01, low_23));
    store(to + 2 * kCr, _mm512_unpacklo_epi16(high_01, high_23));
    store(to + 3 * kCr, _mm512_unpackhi_epi16(high_01, high_23));
  }

  static bool products_fit(const DepthwiseArgs& args) {
    return products_fit_int32(args.requantize.scale, args.channels);
  }

  static __m512i splat_words(int32_t value) {
    return _mm512_set1_epi16(static_cast<int16_t>(value));
  }

  /// Returns the rounded products of two parts in 16 bits.
  static __m512i products(__m512i acc_0_s32x16, __m512i acc_1_s32x16, const float* scale) {
    return _mm512_packs_epi32(rounded_product(acc_0_s32x16, _mm512_loadu_ps(scale)),
                              rounded_product(acc_1_s32x16, _mm512_loadu_ps(scale + kCr / 4)));
  }

  static __m512i words(__m512i acc_0_s32x16, __m512i acc_1_s32x16, const float* scale,
                       __m512i zero_point_s16x32) {
    return _mm512_adds_epi16(products(acc_0_s32x16, acc_1_s32x16, scale), zero_point_s16x32);
  }

  /// Stores the first `count` of 64 bytes. Masked stores are slow on some processors, so only the
  /// last few go through one.
  static void store_first(uint8_t* y, __m512i bytes, size_t count) {
    if (count >= kCr) return _mm512_storeu_si512(y, bytes);
    const __m256i half = _mm512_castsi512_si256(bytes);
    if (count <= kCr / 2) return store_half(y, half, count);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), half);
    store_half(y + kCr / 2, _mm512_extracti64x4_epi64(bytes, 1), count - kCr / 2);
  }

  /// Stores the first `count` of 32 bytes.
  static void store_half(uint8_t* y, __m256i bytes, size_t count) {
    if (count >= kCr / 2) return _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), bytes);
    const __m128i quarter = _mm256_castsi256_si128(bytes);
    if (count <= kCr / 4) return store_quarter(y, quarter, count);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), quarter);
    store_quarter(y + kCr / 4, _mm256_extracti128_si256(bytes, 1), count - kCr / 4);
  }

  /// Stores the first `count` of 16 bytes.
  static void store_quarter(uint8_t* y, __m128i bytes, size_t count) {
    if (count >= kCr / 4) return _mm_storeu_si128(reinterpret_cast<__m128i*>(y), bytes);
    _mm_mask_storeu_epi8(y, first_lanes(count), bytes);
  }

  struct Bytes {
    explicit Bytes(const Requantize& requantize) : constants(requantize_bytes(requantize)) {}

    __m512i bytes(__m512i words_0_s16x32, __m512i words_1_s16x32) const {
      const __m512i above = _mm512_max_epu8(_mm512_packus_epi16(words_0_s16x32, words_1_s16x32),
                                            constants.lowest_u8x64);
      return _mm512_min_epu8(above, constants.highest_u8x64);
    }

    void store(uint8_t* y, __m512i words_0_s16x32, __m512i words_1_s16x32, size_t count) const {
      store_first(y, bytes(words_0_s16x32, words_1_s16x32), count);
    }

    RequantizeBytes constants;
  };

  static void store_sums(const DepthwiseArgs& args, size_t i, size_t j, size_t channel,
                         const int32_t* sums) {
    __m512i acc_s32x16 = _mm512_castsi128_si512(load4(sums));
    acc_s32x16 = _mm512_inserti32x4(acc_s32x16, load4(sums + kCr / 4), 1);
    acc_s32x16 = _mm512_inserti32x4(acc_s32x16, load4(sums + 2 * kCr / 4), 2);
    acc_s32x16 = _mm512_inserti32x4(acc_s32x16, load4(sums + 3 * kCr / 4), 3);
    const __mmask16 lanes = first_lanes(args.channels - channel);
    const size_t pixel = j * args.channels + channel;
    const Requantize& requantize = args.requantize;
    const uint8_t* residual = requantize.residual;
    if (residual != nullptr) residual += i * requantize.residual_stride + pixel;
    const __m512i codes = requantize_lanes(requantize, acc_s32x16, channel, residual, lanes);
    _mm_mask_storeu_epi8(args.y + i * args.y_stride + pixel, lanes, _mm512_cvtepi32_epi8(codes));
  }

 private:
  static __m128i load4(const int32_t* from) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(from));
  }
};

template <size_t kStride, bool kPlain>
void slide_3x3(const DepthwiseArgs& args) {
  slide_blocks<Zmm, Slide3x3<Zmm, kStride, 1, kPlain>, Slide3x3<Zmm, kStride, 2, kPlain>,
               Slide3x3<Zmm, kStride, 4, kPlain>>(args);
}

template <size_t kStride>
void slide_5x5(const DepthwiseArgs& args) {
  slide_blocks<Zmm, Slide5x5<Zmm, kStride, 1>, Slide5x5<Zmm, kStride, 2>,
               Slide5x5<Zmm, kStride, 4>>(args);
}

/// Returns the function for the shapes that slide, null for others.
auto find_slide(const DepthwiseArgs& args) -> void (*)(const DepthwiseArgs&) {
  if (args.kernel_h != args.kernel_w || args.dilation_w != 1) return nullptr;
  const Requantize& requantize = args.requantize;
  const bool plain = requantize.zero_point == 0 && requantize.lo <= 0 && requantize.hi >= UINT8_MAX;
  if (args.kernel_h == 3 && args.stride_w == 1)
    return plain ? slide_3x3<1, true> : slide_3x3<1, false>;
  if (args.kernel_h == 3 && args.stride_w == 2)
    return plain ? slide_3x3<2, true> : slide_3x3<2, false>;
  if (args.kernel_h == 5 && args.stride_w == 1) return slide_5x5<1>;
  if (args.kernel_h == 5 && args.stride_w == 2) return slide_5x5<2>;
  return nullptr;
}

}  // namespace

void depthwise_u8_s8c_u8_x86_avx512vnni(const DepthwiseArgs& args) {
  const auto slide = find_slide(args);
  if (slide == nullptr || args.requantize.residual != nullptr || !Zmm::products_fit(args)) {
    return run_four_taps<Zmm>(args);
  }
  slide(args);
}

}  // namespace edgekit
