#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/requantize.h"

// Portable scalar arithmetic for the generic kernels. The functions are static, so that an object
// built for a special instruction set never lends its copy to the rest of the program.

namespace edgekit {

/// Reads a stored activation: the byte as it is (kU8) or as a signed number (kS8).
template <Storage storage>
static inline int32_t stored_value(uint8_t byte) {
  return storage == Storage::kU8 ? int32_t{byte} : int32_t{static_cast<int8_t>(byte)};
}

/// Rounds to the nearest integer, ties to even; exact for |v| <= 2^22, under any compiler and CPU.
///
/// Adding 1.5 * 2^23 leaves no room for a fraction, so the addition's own IEEE rounding does it,
/// and the sum's low bits are the integer in two's complement.
static inline int32_t round_to_even(float v) {
  constexpr float kMagic = 12582912.0f;
  constexpr int32_t kMagicBits = 0x4B400000;
  const float sum = v + kMagic;
  int32_t bits;
  std::memcpy(&bits, &sum, sizeof(bits));
  return bits - kMagicBits;
}

/// Returns v within [lo, hi].
static inline float clamp_float(float v, float lo, float hi) {
  const float above = v < lo ? lo : v;
  return above > hi ? hi : above;
}

/// Returns y without its zero point, as Requantize says, for output channel c and no residual.
static inline int32_t requantize_offset(const Requantize& requantize, int32_t acc, size_t c) {
  const float v = static_cast<float>(acc) * requantize.scale[c];
  return round_to_even(clamp_float(v, requantize.lo, requantize.hi));
}

/// Returns the stored output byte for output channel c; `residual` is this output's own residual
/// byte, ignored when the layer has none.
template <Storage storage>
static inline uint8_t requantize_byte(const Requantize& requantize, int32_t acc, size_t c,
                                      uint8_t residual) {
  const int32_t offset = requantize_offset(requantize, acc, c);
  if (requantize.residual == nullptr) {
    return static_cast<uint8_t>(requantize.zero_point + offset);
  }
  const int32_t other = stored_value<storage>(residual) - requantize.residual_zero_point;
  const float a = static_cast<float>(offset) * requantize.ratio_a;
  const float b = static_cast<float>(other) * requantize.ratio_b;
  const float sum = clamp_float(a + b, requantize.sum_lo, requantize.sum_hi);
  return static_cast<uint8_t>(requantize.sum_zero_point + round_to_even(sum));
}

}  // namespace edgekit
