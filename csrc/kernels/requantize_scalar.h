#pragma once

#include <cstdint>

#include "kernels/requantize.h"
#include "kernels/rounding.h"
#include "kernels/storage.h"

// Portable scalar arithmetic for the generic kernels. The functions are static, so that an object
// built for a special instruction set never lends its copy to the rest of the program.

namespace edgekit {

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
