#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "isa/isa.h"
#include "kernels/requantize.h"
#include "random.h"

namespace edgekit::test {

/// Fills bytes with values of any kind: evenly spread, or only those at the ends of both storages,
/// where saturation and sign errors show.
template <typename T>
void fill_bytes(Random& random, T* bytes, size_t count) {
  const bool extreme = random.one_in(3);
  for (size_t i = 0; i < count; ++i) {
    const int64_t value =
        extreme ? random.pick<int64_t>({0x00, 0x7F, 0x80, 0x81, 0xFF}) : random.integer(0, 255);
    bytes[i] = static_cast<T>(value);
  }
}

/// Fills weights, which are in [-127, 127]: evenly spread, or only at the ends.
inline void fill_weights(Random& random, int8_t* weights, size_t count) {
  const int64_t kind = random.integer(0, 3);
  for (size_t i = 0; i < count; ++i) {
    int64_t value = random.integer(-127, 127);
    if (kind == 1) value = random.pick<int64_t>({-127, -127, 0, 127, 127});
    if (kind == 2) value = random.pick<int64_t>({-64, -64, 63, 64, 64});
    if (kind == 3) value /= 2;
    weights[i] = static_cast<int8_t>(value);
  }
}

/// Fills the bias: small, or so large that the accumulator comes near the ends of int32.
inline void fill_bias(Random& random, int32_t* bias, size_t count) {
  const int64_t limit = random.pick<int64_t>({0, 100, 100000, 1 << 30});
  for (size_t c = 0; c < count; ++c) bias[c] = static_cast<int32_t>(random.integer(-limit, limit));
}

/// Fills the multipliers: realistic ones, powers of two (whose products have ties to round), or so
/// large that the product leaves int32.
inline void fill_scale(Random& random, float* scale, size_t count) {
  const int64_t kind = random.integer(0, 4);
  for (size_t c = 0; c < count; ++c) {
    scale[c] = kind == 0   ? random.pick<float>({0.5f, 0.25f, 0.125f, 0x1p-10f, 0x1p-20f})
               : kind == 1 ? random.log_uniform(1, 1e6)
               : kind == 2 ? random.log_uniform(1e-6, 2)
               : kind == 3 ? random.log_uniform(1e-6, 1e-3)
                           : random.log_uniform(1e-6, 1e-1);
  }
}

/// Draws a zero point, in stored values, at an end of the range or anywhere, and bounds (codes less
/// the zero point).
inline void pick_range(Random& random, Storage storage, int32_t* zero_point, float* lo, float* hi) {
  const int64_t code =
      random.one_in(2) ? random.pick<int64_t>({-128, 0, 127}) : random.integer(-128, 127);
  int64_t low = -128;
  int64_t high = 127;
  if (random.one_in(3)) {
    low = random.integer(-128, 127);
    high = random.integer(low, 127);
  }
  *zero_point = static_cast<int32_t>(code) + storage_offset(storage);
  *lo = static_cast<float>(low - code);
  *hi = static_cast<float>(high - code);
}

/// Draws everything of a Requantize but its pointers.
inline Requantize pick_requantize(Random& random, Storage storage) {
  Requantize requantize{};
  pick_range(random, storage, &requantize.zero_point, &requantize.lo, &requantize.hi);
  pick_range(random, storage, &requantize.sum_zero_point, &requantize.sum_lo, &requantize.sum_hi);
  requantize.residual_zero_point =
      static_cast<int32_t>(random.integer(-128, 127)) + storage_offset(storage);
  // Now and then so large that a sum leaves int32.
  const double largest = random.one_in(8) ? 1e9 : 4;
  requantize.ratio_a = random.one_in(4) ? 0.5f : random.log_uniform(1e-3, largest);
  requantize.ratio_b = random.one_in(4) ? 0.5f : random.log_uniform(1e-3, largest);
  return requantize;
}

}  // namespace edgekit::test
