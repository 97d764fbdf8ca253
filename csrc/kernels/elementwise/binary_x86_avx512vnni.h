#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise/loops.h"
#include "kernels/requantize_x86_avx512vnni.h"

// Sums, products, maxima and minima of two operands, 64 outputs at a time in four registers of
// float32. Register i holds the bytes 16 * l + 4 * i + j in its lanes 4 * l + j, from where the
// packs put them back in order.
//
// An operand that repeats (a channel's constant, a scalar) is turned into floats once, as often as
// it takes to fill a whole number of registers.

namespace edgekit {
namespace {

constexpr size_t kBytes = 64;
constexpr size_t kRegisters = 4;
constexpr size_t kLanes = 16;

/// Floats of an operand that repeats which are made at a time.
constexpr size_t kPattern = 1024;

/// Places of the bytes that become the 32-bit lanes of each register, in each 128 bits.
struct SpreadOrder {
  constexpr SpreadOrder() {
    for (size_t i = 0; i < kRegisters; ++i) {
      for (size_t lane = 0; lane < 16; ++lane) {
        places[i][lane] = lane % 4 == 0 ? static_cast<uint8_t>(4 * i + lane / 4) : uint8_t{0x80};
      }
    }
  }
  alignas(16) uint8_t places[kRegisters][16] = {};
};

constexpr SpreadOrder kSpreadOrder;

inline __mmask64 first_bytes(size_t count) {
  return count >= kBytes ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

/// Turns 64 stored bytes into float32(x - zero_point), exactly.
class Spread {
 public:
  explicit Spread(int32_t zero_point) : zero_point_(_mm512_set1_epi32(zero_point)) {
    for (size_t i = 0; i < kRegisters; ++i) {
      order_[i] = _mm512_broadcast_i32x4(
          _mm_load_si128(reinterpret_cast<const __m128i*>(kSpreadOrder.places[i])));
    }
  }

  __m512 floats(__m512i x_u8x64, size_t i) const {
    return _mm512_cvtepi32_ps(
        _mm512_sub_epi32(_mm512_shuffle_epi8(x_u8x64, order_[i]), zero_point_));
  }

 private:
  __m512i zero_point_;
  __m512i order_[kRegisters];
};

/// What a kernel computes from its operands: `left` and `right` of one each, then `join`.
struct AddStep {
  explicit AddStep(const AddArgs& args)
      : ratio_a(_mm512_set1_ps(args.ratio_a)), ratio_b(_mm512_set1_ps(args.ratio_b)) {}
  __m512 left(__m512 a) const { return _mm512_mul_ps(a, ratio_a); }
  __m512 right(__m512 b) const { return _mm512_mul_ps(b, ratio_b); }
  __m512 join(__m512 a, __m512 b) const { return _mm512_add_ps(a, b); }
  __m512 ratio_a;
  __m512 ratio_b;
};

/// The product of two differences of bytes is exact in float32.
struct MulStep {
  explicit MulStep(const MulArgs& args) : multiplier(_mm512_set1_ps(args.multiplier)) {}
  __m512 left(__m512 a) const { return a; }
  __m512 right(__m512 b) const { return b; }
  __m512 join(__m512 a, __m512 b) const { return _mm512_mul_ps(_mm512_mul_ps(a, b), multiplier); }
  __m512 multiplier;
};

template <bool larger>
struct ExtremeStep {
  explicit ExtremeStep(const ExtremeArgs& args)
      : ratio_a(_mm512_set1_ps(args.ratio_a)), ratio_b(_mm512_set1_ps(args.ratio_b)) {}
  __m512 left(__m512 a) const { return _mm512_mul_ps(a, ratio_a); }
  __m512 right(__m512 b) const { return _mm512_mul_ps(b, ratio_b); }
  __m512 join(__m512 a, __m512 b) const {
    return larger ? _mm512_max_ps(a, b) : _mm512_min_ps(a, b);
  }
  __m512 ratio_a;
  __m512 ratio_b;
};

template <class Step>
class BinaryRows {
 public:
  BinaryRows(const Step& step, const Operands& operands)
      : step_(step),
        a_(operands.a_zero_point),
        b_(operands.b_zero_point),
        bytes_(requantize_bytes(operands.lo, operands.hi, operands.zero_point)) {}

  /// Both operands side by side.
  void run(size_t size, const uint8_t* a, const uint8_t* b, uint8_t* y) const {
    for (size_t i = 0; i < size; i += kBytes) {
      const __mmask64 mask = first_bytes(size - i);
      const __m512i a_u8x64 = _mm512_maskz_loadu_epi8(mask, a + i);
      const __m512i b_u8x64 = _mm512_maskz_loadu_epi8(mask, b + i);
      __m512 v[kRegisters];
      for (size_t j = 0; j < kRegisters; ++j) {
        v[j] = step_.join(step_.left(a_.floats(a_u8x64, j)), step_.right(b_.floats(b_u8x64, j)));
      }
      store(v, mask, y + i);
    }
  }

  /// The other operand repeats after `period` outputs, a multiple of 64 unless the run is shorter.
  void run_repeated(size_t size, const uint8_t* a, const float* pattern, size_t period,
                    uint8_t* y) const {
    size_t place = 0;
    for (size_t i = 0; i < size; i += kBytes) {
      const __mmask64 mask = first_bytes(size - i);
      const __m512i a_u8x64 = _mm512_maskz_loadu_epi8(mask, a + i);
      __m512 v[kRegisters];
      for (size_t j = 0; j < kRegisters; ++j) {
        const __m512 b = _mm512_load_ps(pattern + place + j * kLanes);
        v[j] = step_.join(step_.left(a_.floats(a_u8x64, j)), b);
      }
      store(v, mask, y + i);
      place += kBytes;
      if (place >= period) place = 0;
    }
  }

  /// Writes `size` floats, rounded up to a multiple of 64, of the operand b[i % width * step].
  void make_pattern(const uint8_t* b, size_t width, size_t step, size_t size,
                    float* pattern) const {
    alignas(64) uint8_t bytes[kPattern] = {};
    for (size_t i = 0, c = 0; i < size; ++i) {
      bytes[i] = b[c * step];
      c = c + 1 == width ? 0 : c + 1;
    }
    for (size_t i = 0; i < size; i += kBytes) {
      const __m512i b_u8x64 = _mm512_load_si512(bytes + i);
      for (size_t j = 0; j < kRegisters; ++j) {
        _mm512_store_ps(pattern + i + j * kLanes, step_.right(b_.floats(b_u8x64, j)));
      }
    }
  }

 private:
  void store(const __m512* v, __mmask64 mask, uint8_t* y) const {
    const __m512i low = _mm512_packs_epi32(_mm512_cvtps_epi32(v[0]), _mm512_cvtps_epi32(v[1]));
    const __m512i high = _mm512_packs_epi32(_mm512_cvtps_epi32(v[2]), _mm512_cvtps_epi32(v[3]));
    const __m512i bytes = _mm512_packus_epi16(_mm512_adds_epi16(low, bytes_.zero_point_s16x32),
                                              _mm512_adds_epi16(high, bytes_.zero_point_s16x32));
    const __m512i above = _mm512_max_epu8(bytes, bytes_.lowest_u8x64);
    _mm512_mask_storeu_epi8(y, mask, _mm512_min_epu8(above, bytes_.highest_u8x64));
  }

  Step step_;
  Spread a_;
  Spread b_;
  RequantizeBytes bytes_;
};

/// Returns the outputs after which both a row of `width` and a register begin anew.
inline size_t common_period(size_t width) {
  size_t period = width;
  while (period % kBytes != 0) period *= 2;
  return period;
}

/// Operand a has a step of 1.
template <class Step>
void run_rows(const Operands& o, const Step& step) {
  const BinaryRows<Step> rows(step, o);
  const bool dense = o.rows == 1 || (o.a_stride == o.width && o.y_stride == o.width);
  if (o.b_step == 1 && (o.b_stride != 0 || o.rows == 1)) {
    if (dense && (o.rows == 1 || o.b_stride == o.width)) {
      return rows.run(o.rows * o.width, o.a, o.b, o.y);
    }
    for (size_t r = 0; r < o.rows; ++r) {
      rows.run(o.width, o.a + r * o.a_stride, o.b + r * o.b_stride, o.y + r * o.y_stride);
    }
    return;
  }
  alignas(64) float pattern[kPattern];
  if (o.b_step == 0 && o.b_stride != 0) {
    for (size_t r = 0; r < o.rows; ++r) {
      rows.make_pattern(o.b + r * o.b_stride, 1, 0, kBytes, pattern);
      rows.run_repeated(o.width, o.a + r * o.a_stride, pattern, kBytes, o.y + r * o.y_stride);
    }
    return;
  }
  const size_t period = o.b_step == 0 ? kBytes : common_period(o.width);
  if (dense && period <= kPattern) {
    rows.make_pattern(o.b, o.width, o.b_step, period, pattern);
    return rows.run_repeated(o.rows * o.width, o.a, pattern, period, o.y);
  }
  for (size_t first = 0; first < o.width; first += kPattern) {
    const size_t width = o.width - first < kPattern ? o.width - first : kPattern;
    rows.make_pattern(o.b + first * o.b_step, width, o.b_step, width, pattern);
    for (size_t r = 0; r < o.rows; ++r) {
      rows.run_repeated(width, o.a + r * o.a_stride + first, pattern, kPattern,
                        o.y + r * o.y_stride + first);
    }
  }
}

/// Returns whether the operands should change places, so that it is the second that repeats.
inline bool first_repeats(const Operands& o) {
  if (o.a_step != o.b_step) return o.a_step == 0;
  return o.a_stride == 0 && o.b_stride != 0;
}

inline Operands swapped(Operands o) {
  const Operands given = o;
  o.a = given.b;
  o.a_stride = given.b_stride;
  o.a_step = given.b_step;
  o.a_zero_point = given.b_zero_point;
  o.b = given.a;
  o.b_stride = given.a_stride;
  o.b_step = given.a_step;
  o.b_zero_point = given.a_zero_point;
  return o;
}

/// Returns whether a value of at most this magnitude, and what its roundings add, fits int32.
inline bool fits_int32(double magnitude) { return magnitude < 2147480000.0; }

inline double magnitude_of(float v) {
  return v < 0 ? -static_cast<double>(v) : static_cast<double>(v);
}

constexpr double kLargestDifference = 255;

}  // namespace
}  // namespace edgekit
