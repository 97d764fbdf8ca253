#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise/loops.h"
#include "kernels/elementwise/parts_x86_avx2.h"

// Loops that the compiler vectorizes, except where bytes change places: quantizing into pixels of
// three channels, and tables of 256 entries by way of sixteen of 16.

namespace edgekit {
namespace {

constexpr size_t kFloats = 8;
/// Elements that become one register of bytes.
constexpr size_t kBytes = 32;

/// float32(x / scale) where it can't be told from x * (1 / scale): the two differ by at most 2^-22
/// of their size, so by less than 2^-13 in the range of codes, and round to the same code unless
/// they come as close as that to the middle between two codes. Bounds are codes, so clamping
/// changes nothing about that.
struct Divider {
  explicit Divider(const QuantizeArgs& args)
      : scale(_mm256_set1_ps(args.scale)),
        inverse(_mm256_set1_ps(1.0f / args.scale)),
        lo(_mm256_set1_ps(args.lo)),
        hi(_mm256_set1_ps(args.hi)),
        always(!(args.scale > 0x1p-100f && args.scale < 0x1p100f)) {}

  /// NaN becomes lo, since max returns its second operand there.
  __m256 clamp(__m256 v_f32x8) const { return _mm256_min_ps(_mm256_max_ps(v_f32x8, lo), hi); }

  /// Returns rne(clamp(x / scale)).
  __m256i codes(const float* x) const {
    const __m256 x_f32x8 = _mm256_loadu_ps(x);
    const __m256 v = clamp(_mm256_mul_ps(x_f32x8, inverse));
    const __m256i rounded = _mm256_cvtps_epi32(v);
    const __m256 off =
        _mm256_andnot_ps(_mm256_set1_ps(-0.0f), _mm256_sub_ps(v, _mm256_cvtepi32_ps(rounded)));
    const __m256 close = _mm256_cmp_ps(off, _mm256_set1_ps(0.5f - 0x1p-12f), _CMP_GT_OQ);
    if (!always && _mm256_movemask_ps(close) == 0) return rounded;
    return _mm256_cvtps_epi32(clamp(_mm256_div_ps(x_f32x8, scale)));
  }

  __m256 scale;
  __m256 inverse;
  __m256 lo;
  __m256 hi;
  bool always;
};

void quantize_plane(const QuantizeArgs& args, const float* x, size_t size, uint8_t* y) {
  const Divider divider(args);
  const __m256i zero_point_s16x16 = _mm256_set1_epi16(static_cast<int16_t>(args.zero_point));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  size_t p = 0;
  for (; p + kBytes <= size; p += kBytes) {
    const __m256i low = _mm256_packs_epi32(divider.codes(x + p), divider.codes(x + p + kFloats));
    const __m256i high =
        _mm256_packs_epi32(divider.codes(x + p + 2 * kFloats), divider.codes(x + p + 3 * kFloats));
    const __m256i bytes = _mm256_packus_epi16(_mm256_add_epi16(low, zero_point_s16x16),
                                              _mm256_add_epi16(high, zero_point_s16x16));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y + p),
                        _mm256_permutevar8x32_epi32(bytes, order));
  }
  for (; p < size; ++p) {
    const float v = clamp_float(x[p] / args.scale, args.lo, args.hi);
    y[p] = static_cast<uint8_t>(args.zero_point + round_to_even(v));
  }
}

/// Pixels of three channels that make three registers.
constexpr size_t kTriples = 16;
constexpr size_t kThree = 3;

/// For each of three registers of pixels, and each channel, the places of its bytes.
struct TripleOrder {
  constexpr TripleOrder() {
    for (size_t i = 0; i < kThree * kTriples; ++i) {
      for (size_t c = 0; c < kThree; ++c) {
        places[i / kTriples][c][i % kTriples] =
            i % kThree == c ? static_cast<uint8_t>(i / kThree) : uint8_t{0x80};
      }
    }
  }
  alignas(16) uint8_t places[kThree][kThree][kTriples] = {};
};

constexpr TripleOrder kTripleOrder;

inline __m128i load16(const void* from) {
  return _mm_loadu_si128(static_cast<const __m128i*>(from));
}

/// y[3 * p + c] = planes[c][p]
void interleave_triples(const uint8_t (*planes)[kBlock], size_t size, uint8_t* y) {
  size_t p = 0;
  for (; p + kTriples <= size; p += kTriples) {
    for (size_t part = 0; part < kThree; ++part) {
      __m128i bytes = _mm_setzero_si128();
      for (size_t c = 0; c < kThree; ++c) {
        const __m128i places = load16(kTripleOrder.places[part][c]);
        bytes = _mm_or_si128(bytes, _mm_shuffle_epi8(load16(planes[c] + p), places));
      }
      _mm_storeu_si128(reinterpret_cast<__m128i*>(y + kThree * p + part * kTriples), bytes);
    }
  }
  for (; p < size; ++p) {
    for (size_t c = 0; c < kThree; ++c) y[kThree * p + c] = planes[c][p];
  }
}

void quantize_triples(const QuantizeArgs& args) {
  for (size_t first = 0; first < args.pixels; first += kBlock) {
    const size_t size = args.pixels - first < kBlock ? args.pixels - first : kBlock;
    uint8_t planes[kThree][kBlock];
    for (size_t c = 0; c < kThree; ++c) {
      quantize_plane(args, args.x + c * args.channel_step + first, size, planes[c]);
    }
    interleave_triples(planes, size, args.y + first * kThree);
  }
}

void quantize(const QuantizeArgs& args) {
  if (args.channels == 1) return quantize_plane(args, args.x, args.pixels, args.y);
  if (args.channels == kThree) return quantize_triples(args);
  for (size_t first = 0; first < args.pixels; first += kBlock) {
    const size_t size = args.pixels - first < kBlock ? args.pixels - first : kBlock;
    for (size_t c = 0; c < args.channels; ++c) {
      uint8_t block[kBlock];
      quantize_plane(args, args.x + c * args.channel_step + first, size, block);
      uint8_t* y = args.y + first * args.channels + c;
      for (size_t p = 0; p < size; ++p) y[p * args.channels] = block[p];
    }
  }
}

/// A table cut into 16 of 16 entries, each xored with the one before but the first and the ninth.
///
/// A shuffle gives 0 for an index whose highest bit is set. So for x < 128, with indices x, x - 16,
/// x - 32 and so on, the shuffles up to the right one add up to its entry, and the rest give 0; the
/// subtraction saturates, which keeps x >= 128 out. Those take the other half with x - 128.
struct NibbleTables {
  explicit NibbleTables(const uint8_t* table) {
    for (size_t i = 0; i < kCount; ++i) {
      __m128i entries = load16(table + 16 * i);
      if (i % kHalf != 0) entries = _mm_xor_si128(entries, load16(table + 16 * (i - 1)));
      tables[i] = _mm256_broadcastsi128_si256(entries);
    }
  }

  __m256i look_up(__m256i x_u8x32) const {
    const __m256i sixteen = _mm256_set1_epi8(16);
    __m256i lower = x_u8x32;
    __m256i upper = _mm256_xor_si256(x_u8x32, _mm256_set1_epi8(static_cast<char>(0x80)));
    __m256i y = _mm256_xor_si256(_mm256_shuffle_epi8(tables[0], lower),
                                 _mm256_shuffle_epi8(tables[kHalf], upper));
    for (size_t i = 1; i < kHalf; ++i) {
      lower = _mm256_subs_epi8(lower, sixteen);
      upper = _mm256_subs_epi8(upper, sixteen);
      y = _mm256_xor_si256(y, _mm256_xor_si256(_mm256_shuffle_epi8(tables[i], lower),
                                               _mm256_shuffle_epi8(tables[kHalf + i], upper)));
    }
    return y;
  }

  static constexpr size_t kCount = 16;
  static constexpr size_t kHalf = 8;
  __m256i tables[kCount];
};

/// Below this, preparing the tables costs more than it saves.
constexpr size_t kFewLookups = 64;

}  // namespace

void add_u8_u8_u8_x86_avx2(const AddArgs& args) { add<Storage::kU8>(args); }
void mul_u8_u8_u8_x86_avx2(const MulArgs& args) { mul<Storage::kU8>(args); }
void extreme_u8_u8_u8_x86_avx2(const ExtremeArgs& args) { extreme<Storage::kU8>(args); }
void quantize_f32_u8_x86_avx2(const QuantizeArgs& args) { quantize(args); }
void quantize_parts_f32_u8_x86_avx2(const QuantizePartsArgs& args) {
  quantize_parts_in_steps<PartStep>(args);
}
void dequantize_u8_f32_x86_avx2(const DequantizeArgs& args) { dequantize<Storage::kU8>(args); }

void lookup_x8_x8_x86_avx2(const LookupArgs& args) {
  size_t i = 0;
  if (args.size >= kFewLookups) {
    const NibbleTables tables(args.table);
    for (; i + kBytes <= args.size; i += kBytes) {
      const __m256i x = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(args.x + i));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(args.y + i), tables.look_up(x));
    }
  }
  for (; i < args.size; ++i) args.y[i] = args.table[args.x[i]];
}

}  // namespace edgekit
