#pragma once

#include <immintrin.h>

#include "kernels/elementwise/loops.h"

// Codes in parts, 16 elements at a time; rows that are no multiple of them end in a step that
// overlaps the one before it. Internal linkage throughout.

namespace edgekit {
namespace {

/// Makes the parts of 16 elements.
class PartStep {
 public:
  explicit PartStep(const QuantizePartsArgs& args)
      : inverse_(_mm512_set1_ps(args.inverse)),
        lo_(_mm512_set1_ps(args.lo)),
        hi_(_mm512_set1_ps(args.hi)),
        zero_point_(_mm512_set1_epi32(args.zero_point)) {}

  template <bool has_coarse>
  void run(const float* x, uint8_t* y, size_t width) const {
    // A NaN is no operand that max returns unless it is the second one.
    const __m512 low = _mm512_max_ps(_mm512_mul_ps(_mm512_loadu_ps(x), inverse_), lo_);
    const __m512 t = _mm512_min_ps(low, hi_);
    const __m512i whole = _mm512_cvtps_epi32(t);
    const __m512 code = _mm512_cvtepi32_ps(whole);
    const __m512 rest = _mm512_mul_ps(_mm512_sub_ps(t, code), _mm512_set1_ps(kPartsOfACode));
    store(whole, y);
    store(_mm512_cvtps_epi32(rest), y + width);
    if constexpr (has_coarse) {
      const __m512 coarse = _mm512_mul_ps(code, _mm512_set1_ps(1 / kPartsOfACode));
      store(_mm512_cvtps_epi32(coarse), y + 2 * width);
    }
  }

 private:
  void store(__m512i codes, uint8_t* y) const {
    const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_add_epi32(codes, zero_point_));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), bytes);
  }

  __m512 inverse_;
  __m512 lo_;
  __m512 hi_;
  __m512i zero_point_;
};

}  // namespace
}  // namespace edgekit
