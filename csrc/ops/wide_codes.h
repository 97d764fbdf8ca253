#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/rounding.h"

namespace edgekit {

// The steps of 16x8 around its sums, in forms that compilers turn into vector code.

constexpr float kMostWideCode = 32767.0F;

/// Returns the int16 code of x, which is around 0.
static inline int32_t wide_code(float x, float step) {
  return round_to_even(clamp_float(x / step, -kMostWideCode, kMostWideCode));
}

/// What is left to do with exact sums.
struct WideEpilogue {
  const double* bias;
  const double* multiplier;
  double lo;
  double hi;
  float step;
};

/// Returns the output of channel o from the exact sum of its products.
///
/// In [2^52, 2^53) doubles are the whole numbers, so adding 1.5 * 2^52 and taking it away again
/// rounds, ties to even.
static inline float finish_wide(const WideEpilogue& epilogue, size_t o, double sum) {
  double v = (sum + epilogue.bias[o]) * epilogue.multiplier[o];
  v = v > epilogue.lo ? v : epilogue.lo;
  v = v < epilogue.hi ? v : epilogue.hi;
  constexpr double kMagic = 6755399441055744.0;
  v = (v + kMagic) - kMagic;
  return static_cast<float>(v) * epilogue.step;
}

}  // namespace edgekit
