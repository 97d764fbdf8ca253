#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/nibble_floats/nibble_floats.h"

// Eight columns at a time: their bytes, a lane each, are shifted to either half of them.

namespace edgekit {

void nibble_floats_s4c_f32_x86_avx2(const NibbleFloatsArgs& args) {
  constexpr size_t kLanes = 8;
  for (size_t c = 0; c < args.panel; c += kLanes) {
    const __m256 scale_f32x8 = _mm256_loadu_ps(args.scale + c);
    const int8_t* w = args.w + c;
    float* y = args.y + c;
    for (size_t j = 0; j < args.pairs; ++j, w += args.panel, y += 2 * args.panel) {
      const __m256i bytes_s32x8 =
          _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(w)));
      const __m256i low_s32x8 = _mm256_srai_epi32(_mm256_slli_epi32(bytes_s32x8, 28), 28);
      const __m256i high_s32x8 = _mm256_srai_epi32(bytes_s32x8, 4);
      _mm256_storeu_ps(y, _mm256_mul_ps(_mm256_cvtepi32_ps(low_s32x8), scale_f32x8));
      _mm256_storeu_ps(y + args.panel, _mm256_mul_ps(_mm256_cvtepi32_ps(high_s32x8), scale_f32x8));
    }
  }
}

}  // namespace edgekit
