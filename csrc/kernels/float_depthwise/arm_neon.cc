#include <arm_neon.h>

#include "kernels/float_depthwise/blocks.h"

// 4 channels in a register.

namespace edgekit {
namespace {

struct Simd {
  static constexpr size_t kLanes = 4;
  static constexpr size_t kRegisters = 32;
  static constexpr bool kTiles = true;
  using V = float32x4_t;

  static V load(const float* from) { return vld1q_f32(from); }
  static V load(const float* from, size_t count) {
    float lanes[kLanes] = {};
    for (size_t i = 0; i < count; ++i) lanes[i] = from[i];
    return vld1q_f32(lanes);
  }
  static void store(float* to, V v) { vst1q_f32(to, v); }
  static void store(float* to, V v, size_t count) {
    float lanes[kLanes];
    vst1q_f32(lanes, v);
    for (size_t i = 0; i < count; ++i) to[i] = lanes[i];
  }
  static V fma(V x, V w, V acc) { return vfmaq_f32(acc, x, w); }
  static V add(V a, V b) { return vaddq_f32(a, b); }
  /// lo where v < lo, hi where v > hi; a NaN stays.
  static V clamp(V v, float lo, float hi) {
    v = vbslq_f32(vcltq_f32(v, vdupq_n_f32(lo)), vdupq_n_f32(lo), v);
    return vbslq_f32(vcgtq_f32(v, vdupq_n_f32(hi)), vdupq_n_f32(hi), v);
  }
};

}  // namespace

void depthwise_f32_f32_f32_arm_neon(const FloatDepthwiseArgs& args) {
  FloatDepthwise<Simd>(args).run();
}

}  // namespace edgekit
