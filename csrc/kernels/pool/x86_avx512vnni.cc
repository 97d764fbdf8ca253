#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/pool/taps.h"

// Pools, 64 channels in a register. Sums are kept in 16 bits as long as they fit. Of 64 bytes,
// register i of the four of sums in 32 bits holds the bytes 16 * l + 4 * i + j in its lanes
// 4 * l + j, from where the packs put them back in order.

namespace edgekit {
namespace {

constexpr size_t kBytes = 64;

/// Stored values that a sum of 16 bits holds, whatever they are.
constexpr size_t kShortSum = 257;

inline __mmask64 first_bytes(size_t count) {
  return count >= kBytes ? ~__mmask64{0} : (__mmask64{1} << count) - 1;
}

/// Sums of 64 channels.
class Sums {
 public:
  void add(__m512i x_u8x64) {
    const __m512i zero = _mm512_setzero_si512();
    low_u16x32_ = _mm512_add_epi16(low_u16x32_, _mm512_unpacklo_epi8(x_u8x64, zero));
    high_u16x32_ = _mm512_add_epi16(high_u16x32_, _mm512_unpackhi_epi8(x_u8x64, zero));
  }

  /// Makes room for kShortSum more.
  void widen() {
    const __m512i zero = _mm512_setzero_si512();
    wide_s32x16_[0] = _mm512_add_epi32(wide_s32x16_[0], _mm512_unpacklo_epi16(low_u16x32_, zero));
    wide_s32x16_[1] = _mm512_add_epi32(wide_s32x16_[1], _mm512_unpackhi_epi16(low_u16x32_, zero));
    wide_s32x16_[2] = _mm512_add_epi32(wide_s32x16_[2], _mm512_unpacklo_epi16(high_u16x32_, zero));
    wide_s32x16_[3] = _mm512_add_epi32(wide_s32x16_[3], _mm512_unpackhi_epi16(high_u16x32_, zero));
    low_u16x32_ = zero;
    high_u16x32_ = zero;
  }

  /// Returns the stored bytes of the means of `count` values each; nothing can be added any more.
  template <class Args>
  __m512i means(const Args& args, size_t count, float multiplier) {
    widen();
    const __m512i zero = _mm512_set1_epi32(static_cast<int32_t>(count) * args.x_zero_point);
    __m512i codes[4];
    for (size_t i = 0; i < 4; ++i) {
      const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_sub_epi32(wide_s32x16_[i], zero)),
                                     _mm512_set1_ps(multiplier));
      const __m512 above = _mm512_max_ps(v, _mm512_set1_ps(args.lo));
      codes[i] = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_min_ps(above, _mm512_set1_ps(args.hi))),
                                  _mm512_set1_epi32(args.zero_point));
    }
    return _mm512_packus_epi16(_mm512_packs_epi32(codes[0], codes[1]),
                               _mm512_packs_epi32(codes[2], codes[3]));
  }

 private:
  __m512i low_u16x32_ = _mm512_setzero_si512();
  __m512i high_u16x32_ = _mm512_setzero_si512();
  __m512i wide_s32x16_[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                             _mm512_setzero_si512()};
};

/// Means of up to `blocks` * 64 channels in one pass over the pixels.
template <size_t blocks>
void mean_of_blocks(const GlobalMeanArgs& args, size_t first) {
  Sums sums[blocks];
  __mmask64 mask[blocks];
  for (size_t b = 0; b < blocks; ++b) mask[b] = first_bytes(args.channels - first - b * kBytes);
  const uint8_t* x = args.x + first;
  for (size_t p = 0; p < args.pixels;) {
    const size_t left = args.pixels - p;
    const size_t end = p + (left < kShortSum ? left : kShortSum);
    for (; p < end; ++p, x += args.x_stride) {
      for (size_t b = 0; b < blocks; ++b) {
        sums[b].add(_mm512_maskz_loadu_epi8(mask[b], x + b * kBytes));
      }
    }
    for (size_t b = 0; b < blocks; ++b) sums[b].widen();
  }
  for (size_t b = 0; b < blocks; ++b) {
    _mm512_mask_storeu_epi8(args.y + first + b * kBytes, mask[b],
                            sums[b].means(args, args.pixels, args.multiplier));
  }
}

}  // namespace

void max_pool_u8_u8_x86_avx512vnni(const MaxPoolArgs& args) {
  const PoolWindow& w = args.window;
  const __m512i lo = _mm512_set1_epi8(static_cast<int8_t>(args.lo));
  const __m512i hi = _mm512_set1_epi8(static_cast<int8_t>(args.hi));
  const size_t step = w.dilation_w * w.channels;
  for (size_t j = 0; j < w.out_width; ++j) {
    const Taps taps = covered_taps(w, j);
    for (size_t c = 0; c < w.channels; c += kBytes) {
      const __mmask64 mask = first_bytes(w.channels - c);
      __m512i best = lo;
      for (size_t r = 0; r < w.row_count; ++r) {
        const uint8_t* x = tap_pixel(w, taps, r, taps.begin) + c;
        for (size_t s = taps.begin; s < taps.end; ++s, x += step) {
          best = _mm512_max_epu8(best, _mm512_maskz_loadu_epi8(mask, x));
        }
      }
      _mm512_mask_storeu_epi8(w.y + j * w.channels + c, mask, _mm512_min_epu8(best, hi));
    }
  }
}

void average_pool_u8_u8_x86_avx512vnni(const AveragePoolArgs& args) {
  const PoolWindow& w = args.window;
  const size_t step = w.dilation_w * w.channels;
  for (size_t j = 0; j < w.out_width; ++j) {
    const Taps taps = covered_taps(w, j);
    const size_t covered = w.row_count * (taps.end - taps.begin);
    const float multiplier = args.multiplier[args.fixed_count != 0 ? args.fixed_count : covered];
    for (size_t c = 0; c < w.channels; c += kBytes) {
      const __mmask64 mask = first_bytes(w.channels - c);
      Sums sums;
      size_t short_count = 0;
      for (size_t r = 0; r < w.row_count; ++r) {
        const uint8_t* x = tap_pixel(w, taps, r, taps.begin) + c;
        for (size_t s = taps.begin; s < taps.end; ++s, x += step) {
          if (short_count == kShortSum) {
            sums.widen();
            short_count = 0;
          }
          ++short_count;
          sums.add(_mm512_maskz_loadu_epi8(mask, x));
        }
      }
      _mm512_mask_storeu_epi8(w.y + j * w.channels + c, mask,
                              sums.means(args, covered, multiplier));
    }
  }
}

void global_mean_u8_u8_x86_avx512vnni(const GlobalMeanArgs& args) {
  size_t first = 0;
  for (; first + 3 * kBytes < args.channels; first += 4 * kBytes) mean_of_blocks<4>(args, first);
  if (first >= args.channels) return;
  const size_t blocks = (args.channels - first + kBytes - 1) / kBytes;
  if (blocks == 3) return mean_of_blocks<3>(args, first);
  if (blocks == 2) return mean_of_blocks<2>(args, first);
  mean_of_blocks<1>(args, first);
}

}  // namespace edgekit
