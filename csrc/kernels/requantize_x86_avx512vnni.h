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

/// Returns the stored values, one a lane, for channels c to c + 15. `residual` points to this
/// output's own residual bytes, of which only those in `lanes` are read; null where there is none.
static inline __m512i requantize_lanes(const Requantize& requantize, __m512i acc_s32x16, size_t c,
                                       const uint8_t* residual, __mmask16 lanes) {
  const __m512i offsets =
      requantize_offsets(acc_s32x16, _mm512_loadu_ps(requantize.scale + c),
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

}  // namespace edgekit
