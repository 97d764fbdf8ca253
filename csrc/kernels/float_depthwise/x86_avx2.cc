#include <immintrin.h>

#include "kernels/float_depthwise/blocks.h"

// 8 channels in a register.

namespace edgekit {
namespace {

struct Simd {
  static constexpr size_t kLanes = 8;
  static constexpr size_t kRegisters = 16;
  static constexpr bool kTiles = true;
  using V = __m256;

  static __m256i first_lanes(size_t count) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), lane);
  }

  static V load(const float* from) { return _mm256_loadu_ps(from); }
  static V load(const float* from, size_t count) {
    return _mm256_maskload_ps(from, first_lanes(count));
  }
  static void store(float* to, V v) { _mm256_storeu_ps(to, v); }
  static void store(float* to, V v, size_t count) {
    _mm256_maskstore_ps(to, first_lanes(count), v);
  }
  static V fma(V x, V w, V acc) { return _mm256_fmadd_ps(x, w, acc); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  /// Takes the second operand where one is NaN: a NaN stays.
  static V clamp(V v, float lo, float hi) {
    return _mm256_min_ps(_mm256_set1_ps(hi), _mm256_max_ps(_mm256_set1_ps(lo), v));
  }
};

}  // namespace

void depthwise_f32_f32_f32_x86_avx2(const FloatDepthwiseArgs& args) {
  FloatDepthwise<Simd>(args).run();
}

}  // namespace edgekit
