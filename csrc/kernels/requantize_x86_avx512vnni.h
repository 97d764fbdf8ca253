#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/requantize.h"

// Requantize for sixteen channels in a register, for the x86_avx512vnni kernels. The functions are
// static, so that no code built for this instruction set is shared with the rest of the program.

namespace edgekit {

/// Returns the mask of the first `count` of 16 lanes.
static inline __mmask16 first_lanes(size_t count) {
  return count >= 16 ? static_cast<__mmask16>(0xFFFF) : static_cast<__mmask16>((1u << count) - 1u);
}

/// Returns rne(clamp(float32(acc) * scale, lo, hi)): the codes without their zero point.
static inline __m512i requantize_offsets(__m512i acc_s32x16, __m512 scale_f32x16, __m512 lo_f32x16,
                                         __m512 hi_f32x16) {
  const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(acc_s32x16), scale_f32x16);
  return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, lo_f32x16), hi_f32x16));
}

/// Returns the stored values, one a lane, for those channels c to c + 15 that are in `lanes`.
/// `residual` points to this output's own residual bytes; null where there is none.
static inline __m512i requantize_lanes(const Requantize& requantize, __m512i acc_s32x16, size_t c,
                                       const uint8_t* residual, __mmask16 lanes) {
  const __m512i offsets =
      requantize_offsets(acc_s32x16, _mm512_maskz_loadu_ps(lanes, requantize.scale + c),
                         _mm512_set1_ps(requantize.lo), _mm512_set1_ps(requantize.hi));
  if (residual == nullptr) {
    return _mm512_add_epi32(offsets, _mm512_set1_epi32(requantize.zero_point));
  }
  const __m512i other =
      _mm512_sub_epi32(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, residual)),
                       _mm512_set1_epi32(requantize.residual_zero_point));
  const __m512 a = _mm512_mul_ps(_mm512_cvtepi32_ps(offsets), _mm512_set1_ps(requantize.ratio_a));
  const __m512 b = _mm512_mul_ps(_mm512_cvtepi32_ps(other), _mm512_set1_ps(requantize.ratio_b));
  const __m512 sum =
      _mm512_min_ps(_mm512_max_ps(_mm512_add_ps(a, b), _mm512_set1_ps(requantize.sum_lo)),
                    _mm512_set1_ps(requantize.sum_hi));
  return _mm512_add_epi32(_mm512_cvtps_epi32(sum), _mm512_set1_epi32(requantize.sum_zero_point));
}

/// Returns whether float32(acc) * scale[c] stays within int32 for every acc and c < n.
static inline bool products_fit_int32(const float* scale, size_t n) {
  const __m512 one = _mm512_set1_ps(1.0f);
  for (size_t c = 0; c < n; c += 16) {
    const __mmask16 lanes = first_lanes(n - c);
    const __m512 magnitude = _mm512_abs_ps(_mm512_maskz_loadu_ps(lanes, scale + c));
    if (_mm512_mask_cmp_ps_mask(lanes, magnitude, one, _CMP_NLT_UQ) != 0) return false;
  }
  return true;
}

/// Requantize for four vectors of accumulators at a time, where products, or with a residual its
/// sums, fit int32.
///
/// The clamp comes last, on bytes: every step before it saturates and keeps order, so a value
/// outside the bounds is still outside when it gets there.
struct RequantizeBytes {
  __m512i zero_point_s16x32;
  __m512i lowest_u8x64;
  __m512i highest_u8x64;
  __m512i order;
};

/// Returns the constants for stored values `zero_point` + [lo, hi].
static inline RequantizeBytes requantize_bytes(float lo, float hi, int32_t zero_point) {
  const int32_t lowest = static_cast<int32_t>(lo) + zero_point;
  const int32_t highest = static_cast<int32_t>(hi) + zero_point;
  // The packs work within 128 bits: put the four of each vector behind one another.
  return {_mm512_set1_epi16(static_cast<int16_t>(zero_point)),
          _mm512_set1_epi8(static_cast<int8_t>(lowest)),
          _mm512_set1_epi8(static_cast<int8_t>(highest)),
          _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)};
}

/// Returns the constants for an output without a residual.
static inline RequantizeBytes requantize_bytes(const Requantize& requantize) {
  return requantize_bytes(requantize.lo, requantize.hi, requantize.zero_point);
}

/// Returns rne(float32(acc) * scale).
static inline __m512i rounded_product(__m512i acc_s32x16, __m512 scale_f32x16) {
  return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(acc_s32x16), scale_f32x16));
}

/// Returns rne(the sum of a layer's own code and a residual), without the sum's zero point.
static inline __m512i rounded_sum(const Requantize& requantize, __m512i acc_s32x16,
                                  __m512 scale_f32x16, __m128i residual_u8x16) {
  const __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(acc_s32x16), scale_f32x16);
  const __m512 above = _mm512_max_ps(product, _mm512_set1_ps(requantize.lo));
  const __m512 clamped = _mm512_min_ps(above, _mm512_set1_ps(requantize.hi));
  const __m512 own = _mm512_roundscale_ps(clamped, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512i bytes = _mm512_cvtepu8_epi32(residual_u8x16);
  const __m512 other = _mm512_cvtepi32_ps(
      _mm512_sub_epi32(bytes, _mm512_set1_epi32(requantize.residual_zero_point)));
  const __m512 a = _mm512_mul_ps(own, _mm512_set1_ps(requantize.ratio_a));
  const __m512 b = _mm512_mul_ps(other, _mm512_set1_ps(requantize.ratio_b));
  return _mm512_cvtps_epi32(_mm512_add_ps(a, b));
}

/// Returns the bytes of four vectors of rounded products, the first two and the last two of which
/// _mm512_packs_epi32() has joined, with their zero point and clamped to what a byte holds; out of
/// order.
static inline __m512i add_zero_point(const RequantizeBytes& constants, __m512i low_s16x32,
                                     __m512i high_s16x32) {
  return _mm512_packus_epi16(_mm512_adds_epi16(low_s16x32, constants.zero_point_s16x32),
                             _mm512_adds_epi16(high_s16x32, constants.zero_point_s16x32));
}

/// Returns the stored bytes of four vectors of rounded products, in order, the first two and the
/// last two of which _mm512_packs_epi32() has joined.
static inline __m512i pack_words(const RequantizeBytes& constants, __m512i low_s16x32,
                                 __m512i high_s16x32) {
  const __m512i bytes = add_zero_point(constants, low_s16x32, high_s16x32);
  const __m512i above = _mm512_max_epu8(bytes, constants.lowest_u8x64);
  return _mm512_permutexvar_epi32(constants.order, _mm512_min_epu8(above, constants.highest_u8x64));
}

/// Returns R of FusedRequantize with its sign turned: the upper half of a lane is then negative,
/// and its lower half the code.
static inline __m512i fused_product(__m512i acc_s32x16, __m512 slope_f32x16, __m512 shift_f32x16) {
  return _mm512_castps_si512(
      _mm512_fnmsub_ps(_mm512_castsi512_ps(acc_s32x16), slope_f32x16, shift_f32x16));
}

/// Returns the stored bytes of four vectors of fused_product(), in order, clamped to what a byte
/// holds. The first packs clamp the codes, and turn the upper halves to zeros: words again.
static inline __m512i pack_fused(const RequantizeBytes& constants, __m512i v0_s32x16,
                                 __m512i v1_s32x16, __m512i v2_s32x16, __m512i v3_s32x16) {
  const __m512i bytes = _mm512_packus_epi16(_mm512_packus_epi16(v0_s32x16, v1_s32x16),
                                            _mm512_packus_epi16(v2_s32x16, v3_s32x16));
  return _mm512_permutexvar_epi32(constants.order, bytes);
}

/// The same, clamped as the constants say.
static inline __m512i pack_fused_clamped(const RequantizeBytes& constants, __m512i v0_s32x16,
                                         __m512i v1_s32x16, __m512i v2_s32x16, __m512i v3_s32x16) {
  const __m512i bytes = pack_fused(constants, v0_s32x16, v1_s32x16, v2_s32x16, v3_s32x16);
  return _mm512_min_epu8(_mm512_max_epu8(bytes, constants.lowest_u8x64), constants.highest_u8x64);
}

/// Returns the bytes of four vectors of rounded products, in order, where saturating clamps them.
static inline __m512i pack_saturated(const RequantizeBytes& constants, __m512i v0_s32x16,
                                     __m512i v1_s32x16, __m512i v2_s32x16, __m512i v3_s32x16) {
  const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(v0_s32x16, v1_s32x16),
                                            _mm512_packs_epi32(v2_s32x16, v3_s32x16));
  return _mm512_permutexvar_epi32(constants.order, bytes);
}

/// Returns the same with a zero point.
static inline __m512i pack_unclamped(const RequantizeBytes& constants, __m512i v0_s32x16,
                                     __m512i v1_s32x16, __m512i v2_s32x16, __m512i v3_s32x16) {
  return _mm512_permutexvar_epi32(
      constants.order, add_zero_point(constants, _mm512_packs_epi32(v0_s32x16, v1_s32x16),
                                      _mm512_packs_epi32(v2_s32x16, v3_s32x16)));
}

/// Returns the stored bytes of four vectors of rounded products, in order.
static inline __m512i pack_bytes(const RequantizeBytes& constants, __m512i v0_s32x16,
                                 __m512i v1_s32x16, __m512i v2_s32x16, __m512i v3_s32x16) {
  return pack_words(constants, _mm512_packs_epi32(v0_s32x16, v1_s32x16),
                    _mm512_packs_epi32(v2_s32x16, v3_s32x16));
}

}  // namespace edgekit
