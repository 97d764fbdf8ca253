#include <cmath>

#include "kernels/float_depthwise/blocks.h"

// Plain C++ over 16 channels. std::fma is exact wherever it comes from, and slow where the CPU has
// no such instruction.

namespace edgekit {
namespace {

struct Simd {
  static constexpr size_t kLanes = 16;
  [[maybe_unused]] static constexpr size_t kRegisters = 16;
#if defined(EDGEKIT_SPARE)
  static constexpr bool kTiles = false;
#else
  static constexpr bool kTiles = true;
#endif
  struct V {
    float lanes[kLanes];
  };

  static V load(const float* from, size_t count = kLanes) {
    V v = {};
    for (size_t i = 0; i < count; ++i) v.lanes[i] = from[i];
    return v;
  }

  static void store(float* to, const V& v, size_t count = kLanes) {
    for (size_t i = 0; i < count; ++i) to[i] = v.lanes[i];
  }

  static V fma(const V& x, const V& w, V acc) {
    for (size_t i = 0; i < kLanes; ++i)
      acc.lanes[i] = std::fma(x.lanes[i], w.lanes[i], acc.lanes[i]);
    return acc;
  }

  static V add(V a, const V& b) {
    for (size_t i = 0; i < kLanes; ++i) a.lanes[i] = a.lanes[i] + b.lanes[i];
    return a;
  }

  static V clamp(V v, float lo, float hi) {
    for (float& lane : v.lanes) {
      lane = lane < lo ? lo : lane;
      lane = lane > hi ? hi : lane;
    }
    return v;
  }
};

}  // namespace

void depthwise_f32_f32_f32_generic(const FloatDepthwiseArgs& args) {
  FloatDepthwise<Simd>(args).run();
}

}  // namespace edgekit
