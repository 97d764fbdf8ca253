#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/requantize.h"

// Asks for a loop of constant length to be unrolled, so that an array of vectors that it walks can
// live in registers.
#if defined(__clang__)
#define EDGEKIT_UNROLL _Pragma("unroll")
#else
#define EDGEKIT_UNROLL _Pragma("GCC unroll 32")
#endif

// Inlines at once, whatever the size: arrays of vectors must not be passed through memory.
#define EDGEKIT_INLINE __attribute__((always_inline)) inline

namespace edgekit {
// Each file that includes this is compiled for its own instruction set: nothing here may be shared
// by the linker.
namespace {

/// Loads 16 codes.
inline int8x16_t load_codes(const void* p) { return vld1q_s8(static_cast<const int8_t*>(p)); }

/// Loads `count` codes, 1 <= count <= 16, and reads no further. The other lanes are zero.
inline int8x16_t load_codes(const void* p, size_t count) {
  if (count == 16) return load_codes(p);
  int8_t lanes[16] = {};
  for (size_t i = 0; i < count; ++i) lanes[i] = static_cast<const int8_t*>(p)[i];
  return vld1q_s8(lanes);
}

/// Stores the lowest `count` lanes, 1 <= count <= 16.
inline void store_codes(uint8_t* y, int8x16_t codes, size_t count) {
  if (count == 16) return vst1q_s8(reinterpret_cast<int8_t*>(y), codes);
  if (count & 8) {
    vst1_s8(reinterpret_cast<int8_t*>(y), vget_low_s8(codes));
    codes = vextq_s8(codes, codes, 8);
    y += 8;
  }
  uint64_t rest = vgetq_lane_u64(vreinterpretq_u64_s8(codes), 0);
  if (count & 4) {
    const uint32_t four = static_cast<uint32_t>(rest);
    __builtin_memcpy(y, &four, 4);
    rest >>= 32;
    y += 4;
  }
  for (size_t i = 0; i < (count & 3); ++i) y[i] = static_cast<uint8_t>(rest >> (8 * i));
}

/// Loads four rows of `columns` codes, 1 <= columns <= 4, into four lanes each; rows from `rows` on
/// are zero.
inline int8x16_t load_codes_4x4(const uint8_t* p, size_t stride, size_t rows, size_t columns) {
  uint32_t lanes[4] = {};
  for (size_t r = 0; r < rows; ++r) {
    if (columns == 4) {
      __builtin_memcpy(&lanes[r], p + r * stride, 4);
    } else {
      for (size_t c = 0; c < columns; ++c)
        lanes[r] |= static_cast<uint32_t>(p[r * stride + c]) << (8 * c);
    }
  }
  return vreinterpretq_s8_u32(vld1q_u32(lanes));
}

/// Stores `columns` of the four lanes of each of the first `rows` rows, 1 <= rows, columns <= 4.
inline void store_codes_4x4(uint8_t* y, size_t stride, int8x16_t codes, size_t rows,
                            size_t columns) {
  const uint32x4_t lanes = vreinterpretq_u32_s8(codes);
  if (rows == 4 && columns == 4) {
    const uint32_t row0 = vgetq_lane_u32(lanes, 0);
    const uint32_t row1 = vgetq_lane_u32(lanes, 1);
    const uint32_t row2 = vgetq_lane_u32(lanes, 2);
    const uint32_t row3 = vgetq_lane_u32(lanes, 3);
    __builtin_memcpy(y, &row0, 4);
    __builtin_memcpy(y + stride, &row1, 4);
    __builtin_memcpy(y + 2 * stride, &row2, 4);
    __builtin_memcpy(y + 3 * stride, &row3, 4);
    return;
  }
  uint32_t row[4];
  vst1q_u32(row, lanes);
  for (size_t r = 0; r < rows; ++r) {
    for (size_t c = 0; c < columns; ++c)
      y[r * stride + c] = static_cast<uint8_t>(row[r] >> (8 * c));
  }
}

/// Four vectors: the int32 sums of 16 outputs, or their scales.
struct Sums16 {
  int32x4_t v[4];
};
struct Scales16 {
  float32x4_t v[4];
};

inline Sums16 load_sums(const int32_t* p) {
  return {{vld1q_s32(p), vld1q_s32(p + 4), vld1q_s32(p + 8), vld1q_s32(p + 12)}};
}

inline Scales16 load_scales(const float* p) {
  return {{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}};
}

inline int16x8_t narrow_sums(int32x4_t low, int32x4_t high) {
  return vqmovn_high_s32(vqmovn_s32(low), high);
}

inline int8x16_t narrow_sums(int16x8_t low, int16x8_t high) {
  return vqmovn_high_s16(vqmovn_s16(low), high);
}

/// Returns the code of a bound that is counted from the zero point.
inline int8_t bound_code(float bound, int32_t zero_point) {
  const int32_t value = static_cast<int32_t>(bound) + zero_point;
  return static_cast<int8_t>(value < -128 ? -128 : value > 127 ? 127 : value);
}

/// The sum with a residual for storage kS8, its constants spread over lanes. A loop that stores
/// codes holds a copy of its own, which is known not to change by that.
class NeonSum {
 public:
  explicit NeonSum(const Requantize& from)
      : lo_(vdupq_n_f32(from.lo)),
        hi_(vdupq_n_f32(from.hi)),
        ratio_a_(vdupq_n_f32(from.ratio_a)),
        ratio_b_(vdupq_n_f32(from.ratio_b)),
        residual_zero_point_(vdupq_n_s8(static_cast<int8_t>(from.residual_zero_point))),
        zero_point_(vdupq_n_s16(static_cast<int16_t>(from.sum_zero_point))),
        lowest_(vdupq_n_s8(bound_code(from.sum_lo, from.sum_zero_point))),
        highest_(vdupq_n_s8(bound_code(from.sum_hi, from.sum_zero_point))) {}

  /// Returns 16 codes of the sum with the residual's codes `b`. The last clamp is one of bytes, as
  /// in NeonRequantize::codes().
  int8x16_t codes(const Sums16& acc, const Scales16& scale, int8x16_t b) const {
    const int16x8_t b_low = vsubl_s8(vget_low_s8(b), vget_low_s8(residual_zero_point_));
    const int16x8_t b_high = vsubl_high_s8(b, residual_zero_point_);
    const int16x8_t low = narrow_sums(sum(acc, scale, 0, vmovl_s16(vget_low_s16(b_low))),
                                      sum(acc, scale, 1, vmovl_high_s16(b_low)));
    const int16x8_t high = narrow_sums(sum(acc, scale, 2, vmovl_s16(vget_low_s16(b_high))),
                                       sum(acc, scale, 3, vmovl_high_s16(b_high)));
    const int8x16_t sums = narrow_sums(vqaddq_s16(low, zero_point_), vqaddq_s16(high, zero_point_));
    return vminq_s8(vmaxq_s8(sums, lowest_), highest_);
  }

 private:
  int32x4_t sum(const Sums16& acc, const Scales16& scale, size_t i, int32x4_t other) const {
    const float32x4_t product = vmulq_f32(vcvtq_f32_s32(acc.v[i]), scale.v[i]);
    const float32x4_t own = vrndnq_f32(vminq_f32(vmaxq_f32(product, lo_), hi_));
    const float32x4_t other_part = vmulq_f32(vcvtq_f32_s32(other), ratio_b_);
    return vcvtnq_s32_f32(vaddq_f32(vmulq_f32(own, ratio_a_), other_part));
  }

  float32x4_t lo_;
  float32x4_t hi_;
  float32x4_t ratio_a_;
  float32x4_t ratio_b_;
  int8x16_t residual_zero_point_;
  int16x8_t zero_point_;
  int8x16_t lowest_;
  int8x16_t highest_;
};

/// A Requantize for storage kS8, its constants spread over lanes.
class NeonRequantize {
 public:
  explicit NeonRequantize(const Requantize& from)
      : spans_bytes_(bound_code(from.lo, from.zero_point) == INT8_MIN &&
                     bound_code(from.hi, from.zero_point) == INT8_MAX),
        fast_(is_fast(from)),
        shift_(vdupq_n_f32(kShift + static_cast<float>(from.zero_point))),
        zero_point_(vdupq_n_s16(static_cast<int16_t>(from.zero_point))),
        bounds_{vdupq_n_s8(bound_code(from.lo, from.zero_point)),
                vdupq_n_s8(bound_code(from.hi, from.zero_point))},
        from_(from) {}

  /// Returns whether the layer has a residual, and so wants add() in place of codes().
  bool has_residual() const { return from_.residual != nullptr; }

  /// Returns whether saturating clamps as the layer's bounds do.
  bool spans_bytes() const { return spans_bytes_; }

  /// Returns whether fast_codes() serves.
  bool is_fast() const { return fast_; }

  /// Returns 1.5 * 2^23 + zero_point.
  float32x4_t shift() const { return shift_; }

  /// Returns 16 codes, where is_fast().
  ///
  /// A product v is less than 2^22 in magnitude, so 1.5 * 2^23 + zero_point + v has a last place of
  /// one: the sum rounds v to a whole number, ties to even since the zero point is even, and the
  /// low 16 bits of its pattern are zero_point + rne(v).
  ///
  /// `shift` is shift(), which a loop holds in a register.
  static int8x16_t fast_codes(const int32x4_t (&acc)[4], const float32x4_t (&scale)[4],
                              float32x4_t shift) {
    const int16x8_t low = low_halves(shifted(acc, scale, shift, 0), shifted(acc, scale, shift, 1));
    const int16x8_t high = low_halves(shifted(acc, scale, shift, 2), shifted(acc, scale, shift, 3));
    return narrow_sums(low, high);
  }

  /// Returns 16 codes.
  ///
  /// The clamp comes last, on bytes. Every step before it saturates (fcvtns, sqxtn, sqadd), and
  /// saturation keeps order, so a value outside [lo, hi] is still outside when it gets there.
  int8x16_t codes(const Sums16& acc, const Scales16& scale) const {
    const int16x8_t low = narrow_sums(rounded(acc, scale, 0), rounded(acc, scale, 1));
    const int16x8_t high = narrow_sums(rounded(acc, scale, 2), rounded(acc, scale, 3));
    return clamp(narrow_sums(vqaddq_s16(low, zero_point_), vqaddq_s16(high, zero_point_)));
  }

  /// Returns whether bounded_codes() serves.
  bool is_bounded() const { return from_.products_fit_16 && !has_residual(); }

  /// Returns 16 codes, where is_bounded(): as fast_codes() does, for any zero point and clamp.
  int8x16_t bounded_codes(const Sums16& acc, const Scales16& scale) const {
    const float32x4_t shift = vdupq_n_f32(kShift);
    const int16x8_t low =
        low_halves(shifted(acc.v, scale.v, shift, 0), shifted(acc.v, scale.v, shift, 1));
    const int16x8_t high =
        low_halves(shifted(acc.v, scale.v, shift, 2), shifted(acc.v, scale.v, shift, 3));
    return clamp(narrow_sums(vaddq_s16(low, zero_point_), vaddq_s16(high, zero_point_)));
  }

  /// Returns 16 codes of R of FusedRequantize, where spans_bytes().
  static int8x16_t fused_codes(const int32x4_t (&r)[4]) {
    return narrow_sums(low_halves(vreinterpretq_s16_s32(r[0]), vreinterpretq_s16_s32(r[1])),
                       low_halves(vreinterpretq_s16_s32(r[2]), vreinterpretq_s16_s32(r[3])));
  }

  /// Returns the least and the largest code.
  const int8x16_t* bounds() const { return bounds_; }

  /// Returns 16 codes of the sum with the residual's codes `b`.
  int8x16_t add(const Sums16& acc, const Scales16& scale, int8x16_t b) const {
    return NeonSum(from_).codes(acc, scale, b);
  }

 private:
  int8x16_t clamp(int8x16_t codes) const {
    return vminq_s8(vmaxq_s8(codes, bounds_[0]), bounds_[1]);
  }

  static constexpr float kShift = 12582912;

  bool is_fast(const Requantize& from) const {
    return from.products_fit_16 && spans_bytes_ && from.zero_point % 2 == 0 &&
           from.residual == nullptr;
  }

  static int16x8_t shifted(const int32x4_t (&acc)[4], const float32x4_t (&scale)[4],
                           float32x4_t shift, size_t i) {
    const float32x4_t v = vmulq_f32(vcvtq_f32_s32(acc[i]), scale[i]);
    return vreinterpretq_s16_f32(vaddq_f32(v, shift));
  }

  static int16x8_t low_halves(int16x8_t a, int16x8_t b) { return vuzp1q_s16(a, b); }

  static int32x4_t rounded(const Sums16& acc, const Scales16& scale, size_t i) {
    return vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(acc.v[i]), scale.v[i]));
  }

  bool spans_bytes_;
  bool fast_;
  float32x4_t shift_;
  int16x8_t zero_point_;
  int8x16_t bounds_[2];
  const Requantize& from_;
};

}  // namespace
}  // namespace edgekit
