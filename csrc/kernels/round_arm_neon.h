#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace edgekit {
// Each file that includes this is compiled for its own instruction set: nothing here may be shared
// by the linker.
namespace {

/// Makes codes of floats: zero_point + rne(clamp(v, lo, hi)), a NaN as lo. The bounds are those of
/// a code less its zero point.
class NeonRound {
 public:
  NeonRound(int32_t zero_point, float lo, float hi)
      : zero_point_(vdupq_n_s8(static_cast<int8_t>(zero_point))),
        lo_(vdupq_n_f32(lo)),
        hi_(vdupq_n_f32(hi)) {}

  /// Returns the codes of 16 floats.
  int8x16_t codes(const float32x4_t (&v)[4]) const {
    const int8x16_t low = vreinterpretq_s8_s16(vuzp1q_s16(rounded(v[0]), rounded(v[1])));
    const int8x16_t high = vreinterpretq_s8_s16(vuzp1q_s16(rounded(v[2]), rounded(v[3])));
    return vaddq_s8(vuzp1q_s8(low, high), zero_point_);
  }

 private:
  /// Returns the four whole numbers, in the low byte of each lane.
  ///
  /// In [2^23, 2^24) floats are the whole numbers, so the sum 1.5 * 2^23 + v is rounded to one, and
  /// the low bits of its pattern count from that of 1.5 * 2^23, which are zero. fmaxnm takes the
  /// number where the other operand is none.
  int16x8_t rounded(float32x4_t v) const {
    const float32x4_t clamped = vminnmq_f32(vmaxnmq_f32(v, lo_), hi_);
    return vreinterpretq_s16_f32(vaddq_f32(clamped, vdupq_n_f32(12582912.0f)));
  }

  int8x16_t zero_point_;
  float32x4_t lo_;
  float32x4_t hi_;
};

/// 16 stored codes less their zero point.
struct NeonDifferences {
  int16x8_t low;
  int16x8_t high;
};

inline NeonDifferences subtract(int8x16_t codes, int8x16_t zero_point) {
  return {vsubl_s8(vget_low_s8(codes), vget_low_s8(zero_point)), vsubl_high_s8(codes, zero_point)};
}

/// Returns float32(difference) of lanes 4 * kFour to 4 * kFour + 3.
template <size_t kFour>
inline float32x4_t real_differences(const NeonDifferences& d) {
  const int16x8_t half = kFour < 2 ? d.low : d.high;
  return vcvtq_f32_s32(kFour % 2 == 0 ? vmovl_s16(vget_low_s16(half)) : vmovl_high_s16(half));
}

}  // namespace
}  // namespace edgekit
