#include <immintrin.h>

#include "kernels/float_depthwise/blocks.h"

// 16 channels in a register.

namespace edgekit {
namespace {

struct Simd {
  static constexpr size_t kLanes = 16;
  static constexpr size_t kRegisters = 32;
  static constexpr bool kTiles = true;
  using V = __m512;

  static __mmask16 first_lanes(size_t count) { return static_cast<__mmask16>((1u << count) - 1); }

  static V load(const float* from) { return _mm512_loadu_ps(from); }
  static V load(const float* from, size_t count) {
    return _mm512_maskz_loadu_ps(first_lanes(count), from);
  }
  static void store(float* to, V v) { _mm512_storeu_ps(to, v); }
  static void store(float* to, V v, size_t count) {
    _mm512_mask_storeu_ps(to, first_lanes(count), v);
  }
  static V fma(V x, V w, V acc) { return _mm512_fmadd_ps(x, w, acc); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  /// Takes the second operand where one is NaN: a NaN stays.
  static V clamp(V v, float lo, float hi) {
    return _mm512_min_ps(_mm512_set1_ps(hi), _mm512_max_ps(_mm512_set1_ps(lo), v));
  }
};

}  // namespace

void depthwise_f32_f32_f32_x86_avx512vnni(const FloatDepthwiseArgs& args) {
  FloatDepthwise<Simd>(args).run();
}

}  // namespace edgekit
