#pragma once

#include <cstddef>
#include <cstdint>

#include "isa/isa.h"

namespace edgekit {

/// Constants with which one fused multiply-add requantizes (fused_requantize.h), one of each an
/// output channel, readable up to the next multiple of the kernel's nr:
///
///   F = the float whose bits are start[c] + sum of products         in place of bias[c]
///   y = the low 16 bits of those of F * slope[c] + shift[c], clamped to zero_point + [lo, hi]
///
/// All of them are null where there are none.
struct FusedRequantize {
  const int32_t* start = nullptr;
  const float* slope = nullptr;
  const float* shift = nullptr;
};

/// What follows the accumulator, from ARITHMETIC.md ("Requantize"):
///
///   v = clamp(float32(acc) * scale[c], lo, hi)      one float32 product, never fused
///   y = zero_point + rne(v)                          stored as a byte
///
/// `lo` and `hi` are the bounds of y less the zero point. They are whole numbers, so that clamping
/// before the rounding equals clamping after it, and no accumulator can leave int32 on its way.
///
/// With a residual (`residual != nullptr`, its rows `residual_stride` bytes apart, as wide as the
/// output) v is rounded first, as the layer's own codes would be, and then added as ARITHMETIC.md's
/// "add":
///
///   sum = rne(v) * ratio_a + float32(b - residual_zero_point) * ratio_b
///   y = sum_zero_point + rne(clamp(sum, sum_lo, sum_hi))
///
/// b and every zero point here are stored values: codes plus storage_offset().
struct Requantize {
  /// One multiplier an output channel, readable up to the next multiple of the kernel's nr.
  const float* scale;
  float lo;
  float hi;
  /// In stored values: the code's zero point plus storage_offset().
  int32_t zero_point;
  /// Promised where true: every |float32(acc) * scale[c]| < kProductLimit16, so that it and its sum
  /// with a zero point fit int16. See products_fit_16().
  bool products_fit_16 = false;

  const uint8_t* residual = nullptr;
  size_t residual_stride = 0;
  int32_t residual_zero_point = 0;
  float ratio_a = 0;
  float ratio_b = 0;
  int32_t sum_zero_point = 0;
  float sum_lo = 0;
  float sum_hi = 0;

  /// Without a residual, what a kernel may do instead; null where it was not proved.
  FusedRequantize fused;
};

/// What Requantize::products_fit_16 promises: 2^15 less the largest zero point and a rounding.
constexpr float kProductLimit16 = 32768 - 256;

/// Returns the largest magnitude that a product of a stored value and a weight of 8 or 4 bits has.
constexpr int64_t largest_product(Storage storage, size_t bits = 8) {
  return (storage == Storage::kU8 ? 255 : 128) * (bits == 4 ? 8 : 127);
}

/// Returns whether Requantize::products_fit_16 holds for n channels, whose accumulators are `bias`
/// and products that add up to no more than `products` in magnitude.
static inline bool products_fit_16(const int32_t* bias, const float* scale, size_t n,
                                   int64_t products) {
  for (size_t c = 0; c < n; ++c) {
    const double magnitude = static_cast<double>(products) + (bias[c] < 0 ? -1.0 : 1.0) * bias[c];
    const double multiplier = (scale[c] < 0 ? -1.0 : 1.0) * static_cast<double>(scale[c]);
    // One more for the roundings of accumulator and product; NaN compares as too large.
    if (!(magnitude * multiplier + 1 < static_cast<double>(kProductLimit16))) return false;
  }
  return true;
}

/// Returns whether a sum with a residual stays within int32 for every acc and residual byte.
static inline bool residual_sums_fit_int32(const Requantize& requantize) {
  const float most = -requantize.lo > requantize.hi ? -requantize.lo : requantize.hi;
  const double a = static_cast<double>(most) * requantize.ratio_a;
  const double b = 255.0 * static_cast<double>(requantize.ratio_b);
  const double sum = (a < 0 ? -a : a) + (b < 0 ? -b : b);
  // Less than int32's largest by more than the roundings of a float sum of that size.
  return sum < 2147480000.0;
}

/// What a GEMM or convolution writes.
enum class Output : uint8_t {
  kCodes,    ///< stored bytes, requantized
  kInt32,    ///< the accumulator
  kFloat32,  ///< float32(acc) * scale[c]: scale is s_x * s_w[c]
  /// residual + float32(acc) * scale[c], product and sum each rounded: the residual is float32.
  kFloat32Sum,
};

/// When a kernel is exact. The converter proves the condition from the actual weights, layer by
/// layer.
enum class Exactness : uint8_t {
  kAlways,
  /// For each pair of neighbours along k that vpmaddubsw adds, 255 * (sum of the positive weights)
  /// <= 32767 and 255 * (sum of the negative weights) >= -32768.
  kPairSumsFit16,
};

}  // namespace edgekit
