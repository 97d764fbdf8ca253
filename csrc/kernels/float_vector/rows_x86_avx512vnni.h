#pragma once

#include <immintrin.h>

#include <cstddef>

#include "kernels/float_vector/loops.h"

// Softmax and layer norm over rows, sixteen elements in a register, which are just the sixteen
// lanes of a sum. The steps are those of loops.h and functions.h, one for one.

namespace edgekit {
namespace {

inline __mmask16 first_floats(size_t count) {
  return static_cast<__mmask16>(count >= kSumLanes ? 0xFFFFu : (1u << count) - 1u);
}

/// exponential() of functions.h. Its two products with powers of two round as the one of scalef
/// does: the first is exact.
inline __m512 exponential(__m512 x) {
  // Both return their second operand where one is NaN.
  x = _mm512_min_ps(_mm512_set1_ps(89.0F), _mm512_max_ps(_mm512_set1_ps(-104.0F), x));
  const __m512 round = _mm512_set1_ps(12582912.0F);
  const __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(x, _mm512_set1_ps(0x1.715476p+0F), round), round);
  __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-0x1.62e400p-1F), x);
  r = _mm512_fmadd_ps(n, _mm512_set1_ps(-0x1.7f7d1cp-20F), r);
  __m512 p = _mm512_set1_ps(0x1.9f0862p-13F);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.6d8d54p-10F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.111272p-7F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.55548ep-5F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.555554p-3F));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5F));
  p = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r), _mm512_set1_ps(1.0F));
  return _mm512_scalef_ps(p, n);
}

/// sum_lanes() of loops.h: lanes 8 apart are added first, then 4, 2 and 1.
inline float sum_register(__m512 lanes) {
  const __m256 by_8 =
      _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
  const __m128 by_4 = _mm_add_ps(_mm256_castps256_ps128(by_8), _mm256_extractf128_ps(by_8, 1));
  const __m128 by_2 = _mm_add_ps(by_4, _mm_movehl_ps(by_4, by_4));
  return _mm_cvtss_f32(_mm_add_ss(by_2, _mm_movehdup_ps(by_2)));
}

/// Returns the largest element; NaN where the first is NaN, which no comparison replaces.
inline __m512 largest_of_row(const float* x, size_t n) {
  constexpr size_t kAtOnce = 4;
  __m512 best[kAtOnce];
  for (__m512& lanes : best) lanes = _mm512_set1_ps(x[0]);
  size_t i = 0;
  for (; i + kAtOnce * kSumLanes <= n; i += kAtOnce * kSumLanes) {
    for (size_t j = 0; j < kAtOnce; ++j) {
      best[j] = _mm512_max_ps(_mm512_loadu_ps(x + i + j * kSumLanes), best[j]);
    }
  }
  for (; i < n; i += kSumLanes) {
    const __mmask16 lanes = first_floats(n - i);
    best[0] = _mm512_mask_max_ps(best[0], lanes, _mm512_maskz_loadu_ps(lanes, x + i), best[0]);
  }
  for (size_t j = 1; j < kAtOnce; ++j) best[0] = _mm512_max_ps(best[j], best[0]);
  return _mm512_set1_ps(_mm512_reduce_max_ps(best[0]));
}

void softmax_rows(const FloatSoftmaxArgs& args) {
  const size_t whole = args.n / kSumLanes * kSumLanes;
  const __mmask16 rest = first_floats(args.n - whole);
  for (size_t r = 0; r < args.rows; ++r) {
    const float* x = args.x + r * args.n;
    float* y = args.y + r * args.n;
    const __m512 largest = largest_of_row(x, args.n);
    __m512 sums = _mm512_setzero_ps();
    for (size_t i = 0; i < whole; i += kSumLanes) {
      const __m512 e = exponential(_mm512_sub_ps(_mm512_loadu_ps(x + i), largest));
      _mm512_storeu_ps(y + i, e);
      sums = _mm512_add_ps(sums, e);
    }
    if (rest != 0) {
      const __m512 e = exponential(_mm512_sub_ps(_mm512_maskz_loadu_ps(rest, x + whole), largest));
      _mm512_mask_storeu_ps(y + whole, rest, e);
      sums = _mm512_mask_add_ps(sums, rest, sums, e);
    }
    const __m512 total = _mm512_set1_ps(sum_register(sums));
    for (size_t i = 0; i < whole; i += kSumLanes) {
      _mm512_storeu_ps(y + i, _mm512_div_ps(_mm512_loadu_ps(y + i), total));
    }
    if (rest != 0) {
      const __m512 e = _mm512_maskz_loadu_ps(rest, y + whole);
      _mm512_mask_storeu_ps(y + whole, rest, _mm512_div_ps(e, total));
    }
  }
}

/// Returns the sum of function(elements) over a row; lanes behind its end do not count.
template <class Function>
inline float sum_row(const float* x, size_t n, Function function) {
  __m512 sums = _mm512_setzero_ps();
  size_t i = 0;
  for (; i + kSumLanes <= n; i += kSumLanes) {
    sums = _mm512_add_ps(sums, function(_mm512_loadu_ps(x + i)));
  }
  const __mmask16 rest = first_floats(n - i);
  if (rest != 0) {
    sums = _mm512_mask_add_ps(sums, rest, sums, function(_mm512_maskz_loadu_ps(rest, x + i)));
  }
  return sum_register(sums);
}

void norm_rows(const FloatNormArgs& args) {
  const auto n = static_cast<float>(args.n);
  for (size_t r = 0; r < args.rows; ++r) {
    const float* x = args.x + r * args.n;
    float* y = args.y + r * args.n;
    const __m512 mean = _mm512_set1_ps(sum_row(x, args.n, [](__m512 v) { return v; }) / n);
    const float squares = sum_row(x, args.n, [mean](__m512 v) {
      const __m512 d = _mm512_sub_ps(v, mean);
      return _mm512_mul_ps(d, d);
    });
    const __m512 scale = _mm512_set1_ps(1.0F / __builtin_sqrtf(squares / n + args.epsilon));
    for (size_t i = 0; i < args.n; i += kSumLanes) {
      const __mmask16 lanes = first_floats(args.n - i);
      const __m512 d = _mm512_sub_ps(_mm512_maskz_loadu_ps(lanes, x + i), mean);
      const __m512 scaled =
          _mm512_mul_ps(_mm512_mul_ps(d, scale), _mm512_maskz_loadu_ps(lanes, args.scale + i));
      _mm512_mask_storeu_ps(y + i, lanes,
                            _mm512_add_ps(scaled, _mm512_maskz_loadu_ps(lanes, args.bias + i)));
    }
  }
}

}  // namespace
}  // namespace edgekit
