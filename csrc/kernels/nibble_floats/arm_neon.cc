#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/nibble_floats/nibble_floats.h"

// Eight columns at a time, either half of their bytes widened to float32.

namespace edgekit {
namespace {

inline void store(float* y, int8x8_t weights_s8x8, const float32x4_t (&scale_f32x4)[2]) {
  const int16x8_t wide_s16x8 = vmovl_s8(weights_s8x8);
  const float32x4_t low_f32x4 = vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide_s16x8)));
  const float32x4_t high_f32x4 = vcvtq_f32_s32(vmovl_s16(vget_high_s16(wide_s16x8)));
  vst1q_f32(y, vmulq_f32(low_f32x4, scale_f32x4[0]));
  vst1q_f32(y + 4, vmulq_f32(high_f32x4, scale_f32x4[1]));
}

}  // namespace

void nibble_floats_s4c_f32_arm_neon(const NibbleFloatsArgs& args) {
  constexpr size_t kLanes = 8;
  for (size_t c = 0; c < args.panel; c += kLanes) {
    const float32x4_t scale_f32x4[2] = {vld1q_f32(args.scale + c), vld1q_f32(args.scale + c + 4)};
    const int8_t* w = args.w + c;
    float* y = args.y + c;
    for (size_t j = 0; j < args.pairs; ++j, w += args.panel, y += 2 * args.panel) {
      const int8x8_t bytes_s8x8 = vld1_s8(w);
      store(y, vshr_n_s8(vshl_n_s8(bytes_s8x8, 4), 4), scale_f32x4);
      store(y + args.panel, vshr_n_s8(bytes_s8x8, 4), scale_f32x4);
    }
  }
}

}  // namespace edgekit
