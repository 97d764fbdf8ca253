#pragma once

#include <cstddef>
#include <limits>

#include "random.h"

namespace edgekit::test {

/// Returns a float of either sign, mostly near 1, sometimes a zero of either sign or tiny.
inline float any_float(Random& random) {
  const float sign = random.one_in(2) ? -1.0F : 1.0F;
  if (random.one_in(16)) return sign * 0.0F;
  if (random.one_in(32)) return sign * 1e-30F;
  return sign * random.log_uniform(1e-3, 10);
}

inline void fill_floats(Random& random, float* values, size_t count) {
  for (size_t i = 0; i < count; ++i) values[i] = any_float(random);
}

/// Draws the bounds of an op: none, a Relu's, a Relu6's, or others.
inline void pick_clamp(Random& random, float* lo, float* hi) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  *lo = random.pick<float>({-kInfinity, 0.0F, -1.5F});
  *hi = random.pick<float>({kInfinity, 6.0F, 0.25F});
}

}  // namespace edgekit::test
