#pragma once

#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/requantize.h"

namespace edgekit {

/// The most that most_fused_depth() returns.
constexpr size_t kMostFusedDepth = 256;

/// Returns up to how many products of an output, those of blocks that are left out not counted,
/// requantizing a kernel's outputs in fewer instructions gains 3 %; 0 for a kernel that does not
/// take FusedRequantize.
inline size_t most_fused_depth(const GemmKernel& kernel) {
  if (kernel.bits != 8) return 0;
  switch (kernel.isa) {
    case Isa::kX86Avx512Vnni:
      return kMostFusedDepth;
    case Isa::kArmNeonDot:
      return 160;
    case Isa::kArmNeon:
      return kernel.nr == 16 && !kernel.sparse ? 64 : 0;
    default:
      return 0;
  }
}

/// Returns whether a kernel takes FusedRequantize.
inline bool fuses(const GemmKernel& kernel) { return most_fused_depth(kernel) != 0; }

/// The range of a channel's accumulators, bias included.
struct AccumulatorRange {
  int64_t lowest;
  int64_t highest;
};

/// One channel of a FusedRequantize.
struct FusedChannel {
  /// As the accumulator starts, in place of its bias.
  int32_t start;
  float slope;
  float shift;
};

/// Finds a channel's constants such that one fused multiply-add gives the codes that Requantize
/// gives, for every accumulator of the range:
///
///   F = the float whose bits are start - bias + acc
///   R = rne(F * slope + shift)                       one rounding, to float32
///   clamp(zero_point + rne(float32(float32(acc) * scale)), zero_point + lo, zero_point + hi)
///     = clamp(the low 16 bits of R's, zero_point + lo, zero_point + hi)
///
/// How: floats in [2^23, 2^24) are the whole numbers. With start - bias the bits of a whole number
/// S that keeps S + acc in there, F is S + acc, so F * slope + shift = acc * slope + delta + 1.5 *
/// 2^23 + zero_point, where delta = S * slope - N and shift = 1.5 * 2^23 + zero_point - N, N being
/// the whole number next to S * slope. R lies in there too, so its last bits are those of a whole
/// number.
///
/// Both sides never descend as acc grows. So they are equal if they step from each code to the next
/// at the same acc: with a(t) the least acc whose code, less the zero point, is above t, if
///
///   (a(t) - 1) * slope + delta < t + 1/2 < a(t) * slope + delta             lo <= t < hi
///
/// where of equal sides R is the even one. That bounds delta from both sides. With slope = scale =
/// M / 2^e, delta is one of the fractions of S * M / 2^e, and the least S for which it lies between
/// the bounds is found as Euclid would.
///
/// A channel all of whose accumulators have one code, as where a large bias leaves a clamp no
/// other, gets that: slope 0.
///
/// Returns false where there is none: where the accumulators' range leaves S no room, 2^23 in all,
/// where products leave int16, or where the scale is not below 1/4.
bool fuse_requantize(float scale, int32_t bias, const Requantize& requantize,
                     AccumulatorRange range, FusedChannel* channel);

/// As many whole numbers, from as many on, are floats one apart, and the bits of the first.
constexpr int32_t kFusedReach = int32_t{1} << 23;
constexpr int32_t kFusedBits = 0x4B000000;

/// Slopes are less: what S * slope leaves of 1.5 * 2^23 then stays such a float.
constexpr float kSteepestFused = 0.25f;

/// Returns whether constants have the ranges of all that fuse_requantize() finds.
inline bool is_fused_channel(const FusedChannel& channel) {
  return channel.start >= kFusedBits && channel.start - kFusedBits < kFusedReach &&
         channel.slope >= 0 && channel.slope < kSteepestFused && channel.shift >= kFusedReach &&
         channel.shift < 2 * kFusedReach;
}

/// Returns constants for a channel that nothing is read of.
FusedChannel unused_channel();

}  // namespace edgekit
