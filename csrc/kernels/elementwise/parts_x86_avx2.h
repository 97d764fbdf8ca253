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
      : inverse_(_mm256_set1_ps(args.inverse)),
        lo_(_mm256_set1_ps(args.lo)),
        hi_(_mm256_set1_ps(args.hi)),
        zero_point_(_mm256_set1_epi32(args.zero_point)) {}

  template <bool has_coarse>
  void run(const float* x, uint8_t* y, size_t width) const {
    const __m256 t[2] = {load(x), load(x + 8)};
    const __m256i whole[2] = {_mm256_cvtps_epi32(t[0]), _mm256_cvtps_epi32(t[1])};
    const __m256 code[2] = {_mm256_cvtepi32_ps(whole[0]), _mm256_cvtepi32_ps(whole[1])};
    const __m256 sixteen = _mm256_set1_ps(kPartsOfACode);
    store(whole[0], whole[1], y);
    store(_mm256_cvtps_epi32(_mm256_mul_ps(_mm256_sub_ps(t[0], code[0]), sixteen)),
          _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_sub_ps(t[1], code[1]), sixteen)), y + width);
    if constexpr (has_coarse) {
      const __m256 part = _mm256_set1_ps(1 / kPartsOfACode);
      store(_mm256_cvtps_epi32(_mm256_mul_ps(code[0], part)),
            _mm256_cvtps_epi32(_mm256_mul_ps(code[1], part)), y + 2 * width);
    }
  }

 private:
  __m256 load(const float* x) const {
    // A NaN is no operand that max returns unless it is the second one.
    const __m256 low = _mm256_max_ps(_mm256_mul_ps(_mm256_loadu_ps(x), inverse_), lo_);
    return _mm256_min_ps(low, hi_);
  }

  void store(__m256i a, __m256i b, uint8_t* y) const {
    // Packing works in halves of 128 bits: a0 b0 a1 b1, each of four codes.
    const __m256i words =
        _mm256_packus_epi32(_mm256_add_epi32(a, zero_point_), _mm256_add_epi32(b, zero_point_));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xD8);
    const __m128i bytes =
        _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), bytes);
  }

  __m256 inverse_;
  __m256 lo_;
  __m256 hi_;
  __m256i zero_point_;
};

}  // namespace
}  // namespace edgekit
