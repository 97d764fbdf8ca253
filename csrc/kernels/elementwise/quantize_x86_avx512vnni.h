#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise/loops.h"

// Quantize, 64 elements at a time. Planes of three channels meet in registers.

namespace edgekit {
namespace {

/// float32(x / scale) where it can't be told from x * (1 / scale): the two differ by at most 2^-22
/// of their size, so by less than 2^-13 in the range of codes, and round to the same code unless
/// they come as close as that to the middle between two codes. Bounds are codes, so clamping
/// changes nothing about that.
class Quantizer {
 public:
  explicit Quantizer(const QuantizeArgs& args)
      : scale_(_mm512_set1_ps(args.scale)),
        inverse_(_mm512_set1_ps(1.0f / args.scale)),
        lo_(_mm512_set1_ps(args.lo)),
        hi_(_mm512_set1_ps(args.hi)),
        zero_point_(_mm512_set1_epi16(static_cast<int16_t>(args.zero_point))),
        // The packs work within 128 bits: put the four of each vector behind one another.
        order_(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15)),
        divides_(!(args.scale > 0x1p-100f && args.scale < 0x1p100f)) {}

  /// Returns the stored bytes of 64 elements.
  __m512i bytes(const float* x) const {
    const __m512 x_f32x16[kVectors] = {_mm512_loadu_ps(x), _mm512_loadu_ps(x + 16),
                                       _mm512_loadu_ps(x + 32), _mm512_loadu_ps(x + 48)};
    return bytes(x_f32x16);
  }

  /// Returns the stored bytes of the first `size` < 64 elements, of which no more are read.
  __m512i bytes(const float* x, size_t size) const {
    __m512 x_f32x16[kVectors];
    for (size_t i = 0; i < kVectors; ++i) {
      const size_t left = size > 16 * i ? size - 16 * i : 0;
      const auto lanes = static_cast<__mmask16>(left >= 16 ? 0xFFFFu : (1u << left) - 1u);
      x_f32x16[i] = _mm512_maskz_loadu_ps(lanes, x + 16 * i);
    }
    return bytes(x_f32x16);
  }

 private:
  static constexpr size_t kVectors = 4;

  /// NaN becomes lo, since max returns its second operand there.
  __m512 clamp(__m512 v_f32x16) const { return _mm512_min_ps(_mm512_max_ps(v_f32x16, lo_), hi_); }

  __m512i bytes(const __m512* x_f32x16) const {
    // Of two operands the one of larger magnitude, as a magnitude.
    constexpr int kLargerMagnitude = 0x0B;
    __m512 v[kVectors];
    __m512 off = _mm512_setzero_ps();
    for (size_t i = 0; i < kVectors; ++i) {
      v[i] = clamp(_mm512_mul_ps(x_f32x16[i], inverse_));
      off =
          _mm512_range_ps(off, _mm512_reduce_ps(v[i], _MM_FROUND_TO_NEAREST_INT), kLargerMagnitude);
    }
    if (divides_ || _mm512_cmp_ps_mask(off, _mm512_set1_ps(0.5f - 0x1p-12f), _CMP_GT_OQ) != 0) {
      for (size_t i = 0; i < kVectors; ++i) v[i] = clamp(_mm512_div_ps(x_f32x16[i], scale_));
    }
    const __m512i low = _mm512_packs_epi32(_mm512_cvtps_epi32(v[0]), _mm512_cvtps_epi32(v[1]));
    const __m512i high = _mm512_packs_epi32(_mm512_cvtps_epi32(v[2]), _mm512_cvtps_epi32(v[3]));
    return _mm512_permutexvar_epi32(order_,
                                    _mm512_packus_epi16(_mm512_add_epi16(low, zero_point_),
                                                        _mm512_add_epi16(high, zero_point_)));
  }

  __m512 scale_;
  __m512 inverse_;
  __m512 lo_;
  __m512 hi_;
  __m512i zero_point_;
  __m512i order_;
  bool divides_;
};

constexpr size_t kQuantized = 64;

void quantize_plane(const Quantizer& quantizer, const float* x, size_t size, uint8_t* y) {
  size_t p = 0;
  for (; p + kQuantized <= size; p += kQuantized) {
    _mm512_storeu_si512(y + p, quantizer.bytes(x + p));
  }
  if (p == size) return;
  const __mmask64 rest = (__mmask64{1} << (size - p)) - 1;
  _mm512_mask_storeu_epi8(y + p, rest, quantizer.bytes(x + p, size - p));
}

constexpr size_t kTriple = 3;

/// For each of three registers of pixels, and each channel, the places of its bytes within 128
/// bits.
struct TripleOrder {
  constexpr TripleOrder() {
    for (size_t i = 0; i < kTriple * 16; ++i) {
      for (size_t c = 0; c < kTriple; ++c) {
        places[i / 16][c][i % 16] =
            i % kTriple == c ? static_cast<uint8_t>(i / kTriple) : uint8_t{0x80};
      }
    }
  }
  alignas(16) uint8_t places[kTriple][kTriple][16] = {};
};

constexpr TripleOrder kTripleOrder;

/// Writes 64 pixels of three channels, of which each plane holds one.
class TripleWriter {
 public:
  TripleWriter() {
    for (size_t part = 0; part < kTriple; ++part) {
      for (size_t c = 0; c < kTriple; ++c) {
        order_[part][c] = _mm512_broadcast_i32x4(
            _mm_load_si128(reinterpret_cast<const __m128i*>(kTripleOrder.places[part][c])));
      }
    }
  }

  void write(const __m512i* planes, uint8_t* y) const {
    __m512i parts[kTriple];
    for (size_t part = 0; part < kTriple; ++part) {
      const __m512i first = _mm512_or_si512(_mm512_shuffle_epi8(planes[0], order_[part][0]),
                                            _mm512_shuffle_epi8(planes[1], order_[part][1]));
      parts[part] = _mm512_or_si512(first, _mm512_shuffle_epi8(planes[2], order_[part][2]));
    }
    // 128 bits l of part p are those of number 3 * l + p.
    store<0>(parts, y);
    store<1>(parts, y);
    store<2>(parts, y);
    store<3>(parts, y);
  }

 private:
  template <int l>
  static void store(const __m512i* parts, uint8_t* y) {
    for (size_t part = 0; part < kTriple; ++part) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(y + 16 * (kTriple * l + part)),
                       _mm512_extracti32x4_epi32(parts[part], l));
    }
  }

  __m512i order_[kTriple][kTriple];
};

void quantize_three_planes(const QuantizeArgs& args, const Quantizer& quantizer) {
  const TripleWriter writer;
  __m512i planes[kTriple];
  size_t p = 0;
  for (; p + kQuantized <= args.pixels; p += kQuantized) {
    for (size_t c = 0; c < kTriple; ++c) {
      planes[c] = quantizer.bytes(args.x + c * args.channel_step + p);
    }
    writer.write(planes, args.y + p * kTriple);
  }
  if (p == args.pixels) return;
  const size_t size = args.pixels - p;
  uint8_t last[kTriple * kQuantized];
  for (size_t c = 0; c < kTriple; ++c) {
    planes[c] = quantizer.bytes(args.x + c * args.channel_step + p, size);
  }
  writer.write(planes, last);
  for (size_t i = 0; i < size * kTriple; ++i) args.y[p * kTriple + i] = last[i];
}

/// Elements of a plane that wait until their pixels are written.
constexpr size_t kWaiting = 256;

void quantize(const QuantizeArgs& args) {
  const Quantizer quantizer(args);
  if (args.channels == 1) {
    return quantize_plane(quantizer, args.x, args.pixels, args.y);
  }
  if (args.channels == kTriple) return quantize_three_planes(args, quantizer);
  for (size_t first = 0; first < args.pixels; first += kWaiting) {
    const size_t size = args.pixels - first < kWaiting ? args.pixels - first : kWaiting;
    for (size_t c = 0; c < args.channels; ++c) {
      uint8_t block[kWaiting];
      quantize_plane(quantizer, args.x + c * args.channel_step + first, size, block);
      uint8_t* y = args.y + first * args.channels + c;
      for (size_t p = 0; p < size; ++p) y[p * args.channels] = block[p];
    }
  }
}

}  // namespace
}  // namespace edgekit
