#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/nibble_floats/nibble_floats.h"

// Sixteen columns at a time: their bytes, a lane each, are shifted to either half of them.

namespace edgekit {

void nibble_floats_s4c_f32_x86_avx512vnni(const NibbleFloatsArgs& args) {
  constexpr size_t kLanes = 16;
  for (size_t c = 0; c < args.panel; c += kLanes) {
    const __mmask16 lanes = args.panel - c >= kLanes ? 0xFFFF : 0x00FF;
    const __m512 scale_f32x16 = _mm512_maskz_loadu_ps(lanes, args.scale + c);
    const int8_t* w = args.w + c;
    float* y = args.y + c;
    for (size_t j = 0; j < args.pairs; ++j, w += args.panel, y += 2 * args.panel) {
      const __m512i bytes_s32x16 = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(lanes, w));
      const __m512i low_s32x16 = _mm512_srai_epi32(_mm512_slli_epi32(bytes_s32x16, 28), 28);
      const __m512i high_s32x16 = _mm512_srai_epi32(bytes_s32x16, 4);
      _mm512_mask_storeu_ps(y, lanes, _mm512_mul_ps(_mm512_cvtepi32_ps(low_s32x16), scale_f32x16));
      _mm512_mask_storeu_ps(y + args.panel, lanes,
                            _mm512_mul_ps(_mm512_cvtepi32_ps(high_s32x16), scale_f32x16));
    }
  }
}

}  // namespace edgekit
