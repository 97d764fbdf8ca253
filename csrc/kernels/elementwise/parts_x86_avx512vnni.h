#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise/loops.h"

// Codes in parts, 64 elements at a time, whatever rows they belong to: floats until they are
// rounded, then words. A row's share of 64 bytes is stored under a mask. Internal linkage
// throughout.

namespace edgekit {
namespace {

/// The parts of 64 elements as stored bytes: codes, what these leave, and their own sixteenths.
struct PartBytes {
  __m512i whole;
  __m512i rest;
  __m512i coarse;
};

/// Makes the parts of 64 elements.
class PartStep {
 public:
  static constexpr size_t kElements = 64;

  explicit PartStep(const QuantizePartsArgs& args)
      : inverse_(_mm512_set1_ps(args.inverse)),
        lo_(_mm512_set1_ps(args.lo)),
        hi_(_mm512_set1_ps(args.hi)),
        zero_point_(_mm512_set1_epi16(static_cast<int16_t>(args.zero_point))),
        half_(
            _mm512_set1_epi16(static_cast<int16_t>(kSixteen / 2 - 1 + kSixteen * args.zero_point))),
        // The packs work within 128 bits: put the four of each vector behind one another.
        order_(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)) {}

  /// Of `x` as many elements are read as `lanes` has bits.
  template <bool has_coarse>
  __attribute__((always_inline)) PartBytes run(const float* x, __mmask64 lanes) const {
    __m512i whole[2];
    __m512i fine[2];
    for (size_t i = 0; i < 2; ++i) {
      const __m512 a = clamped(x + 32 * i, static_cast<__mmask16>(lanes >> (32 * i)));
      const __m512 b = clamped(x + 32 * i + 16, static_cast<__mmask16>(lanes >> (32 * i + 16)));
      whole[i] = _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
      fine[i] = _mm512_packs_epi32(sixteenths(a), sixteenths(b));
    }
    __m512i rest[2];
    __m512i coarse[2];
    for (size_t i = 0; i < 2; ++i) {
      // rne(16 * t) less 16 codes is rne(16 * (t - code)): an even number more or less turns no
      // tie.
      rest[i] = _mm512_sub_epi16(fine[i], _mm512_slli_epi16(whole[i], 4));
      // Half a sixteenth, of a tie just as much as leads to the even one.
      const __m512i odd = _mm512_and_si512(_mm512_srli_epi16(whole[i], 4), _mm512_set1_epi16(1));
      coarse[i] = _mm512_srai_epi16(_mm512_add_epi16(_mm512_add_epi16(whole[i], half_), odd), 4);
    }
    PartBytes bytes;
    bytes.whole = pack(add_zero_point(whole[0]), add_zero_point(whole[1]));
    bytes.rest = pack(add_zero_point(rest[0]), add_zero_point(rest[1]));
    if constexpr (has_coarse) bytes.coarse = pack(coarse[0], coarse[1]);
    return bytes;
  }

 private:
  static constexpr int kSixteen = static_cast<int>(kPartsOfACode);

  /// A NaN is no operand that max returns unless it is the second one.
  __attribute__((always_inline)) __m512 clamped(const float* x, __mmask16 lanes) const {
    const __m512 own = lanes == 0xFFFF ? _mm512_loadu_ps(x) : _mm512_maskz_loadu_ps(lanes, x);
    const __m512 t = _mm512_mul_ps(own, inverse_);
    return _mm512_min_ps(_mm512_max_ps(t, lo_), hi_);
  }

  static __m512i sixteenths(__m512 t) {
    return _mm512_cvtps_epi32(_mm512_mul_ps(t, _mm512_set1_ps(kPartsOfACode)));
  }

  __m512i add_zero_point(__m512i codes_s16x32) const {
    return _mm512_add_epi16(codes_s16x32, zero_point_);
  }

  __m512i pack(__m512i low_s16x32, __m512i high_s16x32) const {
    return _mm512_permutexvar_epi32(order_, _mm512_packus_epi16(low_s16x32, high_s16x32));
  }

  __m512 inverse_;
  __m512 lo_;
  __m512 hi_;
  __m512i zero_point_;
  /// What a code takes to be rounded to sixteenths, and 16 zero points.
  __m512i half_;
  __m512i order_;
};

template <bool has_coarse>
void quantize_parts_by_64(const QuantizePartsArgs& args) {
  constexpr size_t kStep = PartStep::kElements;
  const PartStep step(args);
  const size_t width = args.width;
  const size_t row_bytes = width * args.parts;
  const size_t size = args.rows * width;
  uint8_t* row = args.y;
  size_t column = 0;
  for (size_t i = 0; i < size; i += kStep) {
    const size_t count = size - i < kStep ? size - i : kStep;
    const PartBytes bytes =
        count == kStep ? step.run<has_coarse>(args.x + i, ~__mmask64{0})
                       : step.run<has_coarse>(args.x + i, ~__mmask64{0} >> (kStep - count));
    for (size_t done = 0; done < count;) {
      const size_t share = count - done < width - column ? count - done : width - column;
      const __mmask64 lanes = ~__mmask64{0} >> (kStep - share) << done;
      // Where the first of the 64 bytes would lie.
      const uintptr_t first = reinterpret_cast<uintptr_t>(row) + column - done;
      // NOLINTNEXTLINE(performance-no-int-to-ptr): no pointer may stand before its buffer.
      auto* to = reinterpret_cast<uint8_t*>(first);
      _mm512_mask_storeu_epi8(to, lanes, bytes.whole);
      _mm512_mask_storeu_epi8(to + width, lanes, bytes.rest);
      if constexpr (has_coarse) _mm512_mask_storeu_epi8(to + 2 * width, lanes, bytes.coarse);
      done += share;
      column += share;
      if (column == width) {
        column = 0;
        row += row_bytes;
      }
    }
  }
}

void quantize_parts_in_64(const QuantizePartsArgs& args) {
  if (args.parts == 3) return quantize_parts_by_64<true>(args);
  quantize_parts_by_64<false>(args);
}

}  // namespace
}  // namespace edgekit
