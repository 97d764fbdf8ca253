#pragma once

#include <cstdint>
#include <cstring>

namespace edgekit {

// Float steps that every kernel shares, in forms that compilers turn into vector code. They have
// internal linkage, so that a copy compiled for a strong instruction set can't replace the
// baseline's.

/// Returns v clamped to [lo, hi]; NaN becomes lo.
static inline float clamp_float(float v, float lo, float hi) {
  v = v > lo ? v : lo;
  return v < hi ? v : hi;
}

/// Returns v rounded to a whole number, ties to even; |v| <= 2^22.
///
/// In [2^23, 2^24) floats are the whole numbers, so the sum 1.5 * 2^23 + v is rounded to one, and
/// the low bits of its pattern count from that of 1.5 * 2^23.
static inline int32_t round_to_even(float v) {
  const float shifted = v + 12582912.0f;
  int32_t bits = 0;
  std::memcpy(&bits, &shifted, sizeof bits);
  return bits - 0x4B400000;
}

}  // namespace edgekit
