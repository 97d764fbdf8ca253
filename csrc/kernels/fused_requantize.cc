#include "kernels/fused_requantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/rounding.h"

namespace edgekit {
namespace {

/// The whole numbers [kLeast, 2 * kLeast) are floats one apart.
constexpr int64_t kLeast = kFusedReach;

/// The bits of the first.
constexpr int32_t kLeastBits = kFusedBits;

/// R of a code 0: low bits of zeros, and room on both sides.
constexpr int64_t kMiddle = kLeast + kLeast / 2;

/// Below it a code takes more accumulators than there are bits for.
constexpr float kFlattest = 0x1p-20f;

constexpr uint64_t kNone = UINT64_MAX;

/// Returns the least x >= 0 for which lowest <= a * x % modulus <= highest, or kNone.
/// 0 <= a < modulus, 0 <= lowest <= highest < modulus.
uint64_t first_multiple(uint64_t a, uint64_t modulus, uint64_t lowest, uint64_t highest) {
  if (lowest == 0) return 0;
  if (a == 0) return kNone;
  if (2 * a > modulus) {
    a = modulus - a;
    const uint64_t mirrored = modulus - lowest;
    lowest = modulus - highest;
    highest = mirrored;
  }
  const uint64_t multiples = (lowest + a - 1) / a;
  if (multiples * a <= highest) return multiples;
  // No multiple of a lies between: a * x = modulus * y + what does, so y solves the same modulo a.
  const uint64_t y = first_multiple((a - modulus % a) % a, a, lowest % a, highest % a);
  if (y == kNone || y > (UINT64_MAX - lowest) / modulus - 1) return kNone;
  return (modulus * y + lowest + a - 1) / a;
}

/// A float as mantissa / 2^exponent.
struct Fraction {
  int64_t mantissa;
  int exponent;

  explicit Fraction(float value) {
    uint32_t bits = 0;
    std::memcpy(&bits, &value, sizeof(bits));
    mantissa = (bits & (kLeast - 1)) | kLeast;
    exponent = 150 - static_cast<int>(bits >> 23);
  }
};

/// The least and the most that delta may be, in units of 1 / 2^exponent.
struct Bounds {
  int64_t least;
  int64_t most;
};

/// Returns whether the code of an accumulator, less the zero point, is above t.
bool is_above(int64_t acc, int t, float scale) {
  const float product = static_cast<float>(acc) * scale;
  const float edge = static_cast<float>(t) + 0.5f;
  // In the middle of two codes the even one is taken.
  return product > edge || (product == edge && t % 2 != 0);
}

/// Returns the code of an accumulator, less the zero point; of bounds that are codes.
float clamp_product(int64_t acc, float scale, const Requantize& requantize) {
  return std::nearbyint(clamp_float(static_cast<float>(acc) * scale, requantize.lo, requantize.hi));
}

/// Returns the bounds of delta for a slope that is the scale.
Bounds bound_delta(float scale, const Fraction& slope, const Requantize& requantize,
                   AccumulatorRange range) {
  const double inverse = 1 / static_cast<double>(scale);
  const auto farthest = static_cast<double>(range.highest) + 2;
  const auto nearest = static_cast<double>(range.lowest) - 2;
  const int64_t half = int64_t{1} << (slope.exponent - 1);
  Bounds bounds = {1 - half, half - 1};
  const int hi = static_cast<int>(requantize.hi);
  for (int t = static_cast<int>(requantize.lo); t < hi; ++t) {
    const double near = (t + 0.5) * inverse;
    int64_t first = range.lowest;
    if (near > farthest) {
      first = range.highest + 1;
    } else if (near > nearest) {
      first = static_cast<int64_t>(near);
      while (is_above(first - 1, t, scale)) --first;
      while (!is_above(first, t, scale)) ++first;
    }
    // In the middle of two whole numbers R is the even one.
    const bool rises = (t + requantize.zero_point) % 2 != 0;
    const int64_t edge = (2 * t + 1) * half;
    if (first <= range.highest) {
      const int64_t acc = std::max(first, range.lowest);
      bounds.least = std::max(bounds.least, edge - acc * slope.mantissa + (rises ? 0 : 1));
    }
    if (first > range.lowest) {
      const int64_t acc = std::min(first - 1, range.highest);
      bounds.most = std::min(bounds.most, edge - acc * slope.mantissa - (rises ? 1 : 0));
    }
    if (first > range.highest) break;
  }
  return bounds;
}

}  // namespace

FusedChannel unused_channel() { return {kLeastBits, 0, static_cast<float>(kMiddle)}; }

bool fuse_requantize(float scale, int32_t bias, const Requantize& requantize,
                     AccumulatorRange range, FusedChannel* channel) {
  if (!(scale >= 0) || range.highest - range.lowest >= kLeast) return false;
  const float code = clamp_product(range.lowest, scale, requantize);
  if (code == clamp_product(range.highest, scale, requantize)) {
    channel->start = static_cast<int32_t>(kLeastBits - range.lowest + bias);
    channel->slope = 0;
    channel->shift = static_cast<float>(kMiddle + requantize.zero_point) + code;
    return true;
  }
  if (range.lowest < -kLeast || range.highest > kLeast) return false;
  if (!(scale >= kFlattest && scale < kSteepestFused)) return false;
  const double farthest =
      static_cast<double>(-range.lowest > range.highest ? -range.lowest : range.highest);
  if (farthest * static_cast<double>(scale) + 1 >= static_cast<double>(kProductLimit16)) {
    return false;
  }
  const Fraction fraction(scale);
  const Bounds bounds = bound_delta(scale, fraction, requantize, range);
  if (bounds.least > bounds.most) return false;

  const int64_t modulus = int64_t{1} << fraction.exponent;
  const int64_t first = kLeast - range.lowest;
  const int64_t last = 2 * kLeast - 1 - range.highest;
  const auto mask = static_cast<uint64_t>(modulus - 1);
  const uint64_t from = static_cast<uint64_t>(bounds.least - first * fraction.mantissa) & mask;
  const auto width = static_cast<uint64_t>(bounds.most - bounds.least);
  uint64_t steps = 0;
  if (from + width <= mask) {
    steps = first_multiple(static_cast<uint64_t>(fraction.mantissa), mask + 1, from, from + width);
    if (steps > static_cast<uint64_t>(last - first)) return false;
  }
  const int64_t start = first + static_cast<int64_t>(steps);
  // Rounds to the nearest: delta lies within a half.
  const int64_t whole = (start * fraction.mantissa + modulus / 2) >> fraction.exponent;
  channel->start = static_cast<int32_t>(kLeastBits - kLeast + start + bias);
  channel->slope = scale;
  channel->shift = static_cast<float>(kMiddle + requantize.zero_point - whole);
  // A bias far outside of its own range, or a negative zero point behind the largest S.
  return is_fused_channel(*channel);
}

}  // namespace edgekit
