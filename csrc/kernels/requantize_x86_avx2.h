#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/requantize.h"

// Requantize for sixteen channels in two registers, for the x86_avx2 and x86_avxvnni kernels. The
// functions are static, so that no code built for this instruction set is shared with the rest of
// the program.

namespace edgekit {

/// Returns v within [lo, hi], rounded to the nearest even integer.
static inline __m256i clamp_and_round(__m256 v_f32x8, float lo, float hi) {
  const __m256 above = _mm256_max_ps(v_f32x8, _mm256_set1_ps(lo));
  return _mm256_cvtps_epi32(_mm256_min_ps(above, _mm256_set1_ps(hi)));
}

/// Returns the stored values, one a lane, for channels c to c + 7; `residual_u8x8` holds this
/// output's own residual bytes in its low half, unused when the layer has none.
static inline __m256i requantize_lanes(const Requantize& requantize, __m256i acc_s32x8, size_t c,
                                       __m128i residual_u8x8) {
  const __m256 v =
      _mm256_mul_ps(_mm256_cvtepi32_ps(acc_s32x8), _mm256_loadu_ps(requantize.scale + c));
  const __m256i offsets = clamp_and_round(v, requantize.lo, requantize.hi);
  if (requantize.residual == nullptr) {
    return _mm256_add_epi32(offsets, _mm256_set1_epi32(requantize.zero_point));
  }
  const __m256i other = _mm256_sub_epi32(_mm256_cvtepu8_epi32(residual_u8x8),
                                         _mm256_set1_epi32(requantize.residual_zero_point));
  const __m256 a = _mm256_mul_ps(_mm256_cvtepi32_ps(offsets), _mm256_set1_ps(requantize.ratio_a));
  const __m256 b = _mm256_mul_ps(_mm256_cvtepi32_ps(other), _mm256_set1_ps(requantize.ratio_b));
  const __m256i sum = clamp_and_round(_mm256_add_ps(a, b), requantize.sum_lo, requantize.sum_hi);
  return _mm256_add_epi32(sum, _mm256_set1_epi32(requantize.sum_zero_point));
}

/// Copies `count` < 16 bytes without reading or writing further.
static inline void copy_bytes(uint8_t* to, const uint8_t* from, size_t count) {
  for (size_t i = 0; i < count; ++i) to[i] = from[i];
}

/// Requantizes channels c to c + 15 and stores the first `count` of them to `y`. `residual` points
/// to this output's own residual bytes, of which `count` are read; null where there is none.
static inline void requantize_store(const Requantize& requantize, __m256i low_s32x8,
                                    __m256i high_s32x8, size_t c, const uint8_t* residual,
                                    uint8_t* y, size_t count) {
  alignas(16) uint8_t bytes[16] = {};
  __m128i other = _mm_setzero_si128();
  if (residual != nullptr && count < 16) {
    copy_bytes(bytes, residual, count);
    other = _mm_load_si128(reinterpret_cast<const __m128i*>(bytes));
  } else if (residual != nullptr) {
    other = _mm_loadu_si128(reinterpret_cast<const __m128i*>(residual));
  }
  const __m256i low = requantize_lanes(requantize, low_s32x8, c, other);
  const __m256i high = requantize_lanes(requantize, high_s32x8, c + 8, _mm_srli_si128(other, 8));
  // The pack works within 128 bits; the permutation puts low before high.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xD8);
  const __m128i codes =
      _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  if (count >= 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), codes);
  } else {
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes), codes);
    copy_bytes(y, bytes, count);
  }
}

/// Returns whether float32(acc) * scale[c] stays within int32 for every acc and c < n.
static inline bool products_fit_int32(const float* scale, size_t n) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  const __m256 one = _mm256_set1_ps(1.0f);
  for (size_t c = 0; c < n; c += 8) {
    const __m256 magnitude = _mm256_andnot_ps(sign, _mm256_loadu_ps(scale + c));
    const int others = _mm256_movemask_ps(_mm256_cmp_ps(magnitude, one, _CMP_NLT_UQ));
    const int lanes = n - c < 8 ? (1 << (n - c)) - 1 : 0xFF;
    if ((others & lanes) != 0) return false;
  }
  return true;
}

/// Requantize for sixteen channels of two outputs at a time, where products, or with a residual its
/// sums, fit int32.
///
/// The clamp comes last, on bytes: every step before it saturates and keeps order, so a value
/// outside the bounds is still outside when it gets there.
struct RequantizePairs {
  __m256i zero_point_s16x16;
  __m256i lowest_u8x32;
  __m256i highest_u8x32;
  __m256i order;
};

/// Returns the constants for stored values `zero_point` + [lo, hi].
static inline RequantizePairs requantize_pairs(float lo, float hi, int32_t zero_point) {
  const int32_t lowest = static_cast<int32_t>(lo) + zero_point;
  const int32_t highest = static_cast<int32_t>(hi) + zero_point;
  // The packs work within 128 bits: put the four of each output behind one another.
  return {_mm256_set1_epi16(static_cast<int16_t>(zero_point)),
          _mm256_set1_epi8(static_cast<int8_t>(lowest)),
          _mm256_set1_epi8(static_cast<int8_t>(highest)),
          _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)};
}

/// Returns the constants for an output without a residual.
static inline RequantizePairs requantize_pairs(const Requantize& requantize) {
  return requantize_pairs(requantize.lo, requantize.hi, requantize.zero_point);
}

/// Returns the stored bytes of two outputs from their rounded values: the first and the last eight
/// channels of each.
static inline __m256i pack_pair(const RequantizePairs& constants, __m256i first_low_s32x8,
                                __m256i first_high_s32x8, __m256i second_low_s32x8,
                                __m256i second_high_s32x8) {
  const __m256i first = _mm256_packs_epi32(first_low_s32x8, first_high_s32x8);
  const __m256i second = _mm256_packs_epi32(second_low_s32x8, second_high_s32x8);
  const __m256i bytes = _mm256_packus_epi16(_mm256_adds_epi16(first, constants.zero_point_s16x16),
                                            _mm256_adds_epi16(second, constants.zero_point_s16x16));
  const __m256i above = _mm256_max_epu8(bytes, constants.lowest_u8x32);
  return _mm256_permutevar8x32_epi32(_mm256_min_epu8(above, constants.highest_u8x32),
                                     constants.order);
}

/// Returns rne(float32(acc) * scale).
static inline __m256i rounded_product(__m256i acc_s32x8, const float* scale) {
  return _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_cvtepi32_ps(acc_s32x8), _mm256_loadu_ps(scale)));
}

/// Returns rne(the sum of a layer's own code and a residual), without the sum's zero point, for
/// eight channels. `residual` points to this output's own eight residual bytes.
static inline __m256i rounded_sum(const Requantize& requantize, __m256i acc_s32x8,
                                  const float* scale, const uint8_t* residual) {
  const __m256 product = _mm256_mul_ps(_mm256_cvtepi32_ps(acc_s32x8), _mm256_loadu_ps(scale));
  const __m256 above = _mm256_max_ps(product, _mm256_set1_ps(requantize.lo));
  const __m256 own = _mm256_round_ps(_mm256_min_ps(above, _mm256_set1_ps(requantize.hi)),
                                     _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m256i bytes =
      _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(residual)));
  const __m256 other = _mm256_cvtepi32_ps(
      _mm256_sub_epi32(bytes, _mm256_set1_epi32(requantize.residual_zero_point)));
  const __m256 a = _mm256_mul_ps(own, _mm256_set1_ps(requantize.ratio_a));
  const __m256 b = _mm256_mul_ps(other, _mm256_set1_ps(requantize.ratio_b));
  return _mm256_cvtps_epi32(_mm256_add_ps(a, b));
}

/// Returns the stored bytes of sixteen channels, whose multipliers are at `scale`, of a first and a
/// second output.
static inline __m256i requantize_pair(const RequantizePairs& constants, const float* scale,
                                      const __m256i* first_s32x8, const __m256i* second_s32x8) {
  return pack_pair(
      constants, rounded_product(first_s32x8[0], scale), rounded_product(first_s32x8[1], scale + 8),
      rounded_product(second_s32x8[0], scale), rounded_product(second_s32x8[1], scale + 8));
}

}  // namespace edgekit
