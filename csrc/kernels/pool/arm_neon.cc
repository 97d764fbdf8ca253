#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/pool/taps.h"
#include "kernels/requantize_arm_neon.h"
#include "kernels/round_arm_neon.h"

// Pools, 16 channels in a register and up to four registers at a time. Sums are kept in 16 bits as
// long as they fit. The last channels are computed again with those before them; fewer than 16 are
// left to plain C++.

namespace edgekit {

void max_pool_s8_s8_generic(const MaxPoolArgs& args);
void average_pool_s8_s8_generic(const AveragePoolArgs& args);
void global_mean_s8_s8_generic(const GlobalMeanArgs& args);

namespace {

constexpr size_t kLanes = 16;
/// Registers of channels that pass over the taps together.
constexpr size_t kMost = 4;
/// Stored values that a sum of 16 bits holds, whatever they are.
constexpr size_t kShortSum = 256;

/// Sums of kVectors * 16 channels.
template <size_t kVectors>
class Sums {
 public:
  EDGEKIT_INLINE void add(const uint8_t* x) {
    EDGEKIT_UNROLL
    for (size_t v = 0; v < kVectors; ++v) {
      const int8x16_t codes = load_codes(x + v * kLanes);
      short_[2 * v] = vaddw_s8(short_[2 * v], vget_low_s8(codes));
      short_[2 * v + 1] = vaddw_high_s8(short_[2 * v + 1], codes);
    }
  }

  /// Makes room for kShortSum more.
  EDGEKIT_INLINE void widen() {
    EDGEKIT_UNROLL
    for (size_t i = 0; i < 2 * kVectors; ++i) {
      wide_[2 * i] = vaddw_s16(wide_[2 * i], vget_low_s16(short_[i]));
      wide_[2 * i + 1] = vaddw_high_s16(wide_[2 * i + 1], short_[i]);
      short_[i] = vdupq_n_s16(0);
    }
  }

  /// Stores the means of `count` values each; nothing can be added any more.
  template <class Args>
  EDGEKIT_INLINE void store(const Args& args, size_t count, float multiplier, uint8_t* y) {
    widen();
    const NeonRound round(args.zero_point, args.lo, args.hi);
    const int32x4_t zero = vdupq_n_s32(static_cast<int32_t>(count) * args.x_zero_point);
    EDGEKIT_UNROLL
    for (size_t i = 0; i < kVectors; ++i) {
      float32x4_t v[4];
      EDGEKIT_UNROLL
      for (size_t j = 0; j < 4; ++j) {
        v[j] = vmulq_n_f32(vcvtq_f32_s32(vsubq_s32(wide_[4 * i + j], zero)), multiplier);
      }
      vst1q_s8(reinterpret_cast<int8_t*>(y + i * kLanes), round.codes(v));
    }
  }

 private:
  int16x8_t short_[2 * kVectors] = {};
  int32x4_t wide_[4 * kVectors] = {};
};

/// A number of registers that the compiler knows.
template <size_t count>
struct Vectors {
  static constexpr size_t kCount = count;
};

/// Calls `visit(vectors, first)` for groups of registers that cover the channels, at least 16.
template <class Visit>
EDGEKIT_INLINE void visit_channels(size_t channels, const Visit& visit) {
  size_t first = 0;
  for (; first + kMost * kLanes <= channels; first += kMost * kLanes)
    visit(Vectors<kMost>(), first);
  for (; first + kLanes <= channels; first += kLanes) visit(Vectors<1>(), first);
  if (first < channels) visit(Vectors<1>(), channels - kLanes);
}

}  // namespace

void max_pool_s8_s8_arm_neon(const MaxPoolArgs& args) {
  const PoolWindow& w = args.window;
  if (w.channels < kLanes) return max_pool_s8_s8_generic(args);
  const int8x16_t lo = vdupq_n_s8(static_cast<int8_t>(args.lo));
  const int8x16_t hi = vdupq_n_s8(static_cast<int8_t>(args.hi));
  const size_t step = w.dilation_w * w.channels;
  for (size_t j = 0; j < w.out_width; ++j) {
    const Taps taps = covered_taps(w, j);
    visit_channels(w.channels, [&](auto vectors, size_t first) {
      constexpr size_t kVectors = decltype(vectors)::kCount;
      int8x16_t best[kVectors];
      EDGEKIT_UNROLL
      for (size_t v = 0; v < kVectors; ++v) best[v] = lo;
      for (size_t r = 0; r < w.row_count; ++r) {
        const uint8_t* x = tap_pixel(w, taps, r, taps.begin) + first;
        for (size_t s = taps.begin; s < taps.end; ++s, x += step) {
          EDGEKIT_UNROLL
          for (size_t v = 0; v < kVectors; ++v) {
            best[v] = vmaxq_s8(best[v], load_codes(x + v * kLanes));
          }
        }
      }
      int8_t* y = reinterpret_cast<int8_t*>(w.y + j * w.channels + first);
      EDGEKIT_UNROLL
      for (size_t v = 0; v < kVectors; ++v) vst1q_s8(y + v * kLanes, vminq_s8(best[v], hi));
    });
  }
}

void average_pool_s8_s8_arm_neon(const AveragePoolArgs& args) {
  const PoolWindow& w = args.window;
  if (w.channels < kLanes) return average_pool_s8_s8_generic(args);
  const size_t step = w.dilation_w * w.channels;
  for (size_t j = 0; j < w.out_width; ++j) {
    const Taps taps = covered_taps(w, j);
    const size_t covered = w.row_count * (taps.end - taps.begin);
    const float multiplier = args.multiplier[args.fixed_count != 0 ? args.fixed_count : covered];
    visit_channels(w.channels, [&](auto vectors, size_t first) {
      Sums<decltype(vectors)::kCount> sums;
      size_t short_count = 0;
      for (size_t r = 0; r < w.row_count; ++r) {
        const uint8_t* x = tap_pixel(w, taps, r, taps.begin) + first;
        for (size_t s = taps.begin; s < taps.end; ++s, x += step) {
          if (short_count == kShortSum) {
            sums.widen();
            short_count = 0;
          }
          ++short_count;
          sums.add(x);
        }
      }
      sums.store(args, covered, multiplier, w.y + j * w.channels + first);
    });
  }
}

void global_mean_s8_s8_arm_neon(const GlobalMeanArgs& args) {
  if (args.channels < kLanes) return global_mean_s8_s8_generic(args);
  visit_channels(args.channels, [&](auto vectors, size_t first) {
    Sums<decltype(vectors)::kCount> sums;
    const uint8_t* x = args.x + first;
    for (size_t p = 0; p < args.pixels;) {
      const size_t left = args.pixels - p;
      const size_t end = p + (left < kShortSum ? left : kShortSum);
      for (; p < end; ++p, x += args.x_stride) sums.add(x);
      sums.widen();
    }
    sums.store(args, args.pixels, args.multiplier, args.y + first);
  });
}

}  // namespace edgekit
