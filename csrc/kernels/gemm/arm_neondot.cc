#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_arm_neon.h"
#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"
#include "kernels/store_fused_arm_neon.h"

namespace edgekit {
namespace {

// Registers of a full tile: 6 rows by 16 columns of int32 in 24 of them, 16 bytes of each of the 6
// rows of a in 6, and 2 for w, each of which holds 4 columns by 4 k:
//
//                w k0..3 | columns 0..3   4..7   8..11   12..15
//   a row 0, k 0..15      acc[0][0]     acc[0][1] ...   acc[0][3]     sdot acc[r][v].4s, w.16b,
//   a[r].4b[k / 4]
//   ...
//   a row 5, k 0..15      acc[5][0]        ...          acc[5][3]
//
// For 16 k: 6 loads of a, 8 of pairs of w, 96 sdot. Of weights of 4 bits, a register of w holds 4
// columns by k 0..3 in the lower halves of its bytes and k 4..7 in the upper ones; the other one
// takes first those, then these.
constexpr size_t kMr = 6;
constexpr size_t kNr = 16;
constexpr size_t kKr = 4;
// Bytes of a that one block of rows may fill, so that it stays in the first-level cache while all
// of w passes by.
constexpr size_t kBlockBytes = 24 * 1024;

/// Adds the products of four columns' four k with the four k in lane `kLane` of a row of a.
///
/// Volatile keeps the loads and multiplies in the written order: g++ would load all of w early and
/// move accumulators to the stack, as every register is taken.
template <int kLane>
inline void dot(int32x4_t& acc, int8x16_t w, int8x16_t a) {
  asm volatile("sdot %0.4s, %1.16b, %2.4b[%3]" : "+w"(acc) : "w"(w), "w"(a), "i"(kLane));
}

/// Multiplies the four k in lane `kLane` of a, and moves w behind the panel's four k.
template <int kLane, size_t kRows, size_t kVectors>
inline void multiply(int32x4_t (&acc)[kRows][kVectors], const int8x16_t (&a)[kRows],
                     const int8_t*& w) {
  EDGEKIT_UNROLL
  for (size_t v = 0; v < kVectors; v += 2) {
    int8x16_t columns[2];
    load_pair_next<kNr * kKr * 2 / kVectors>(w, columns);
    EDGEKIT_UNROLL
    for (size_t i = 0; i < 2; ++i) {
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) dot<kLane>(acc[r][v + i], columns[i], a[r]);
    }
  }
}

/// Multiplies the eight k in lanes `kLane` and `kLane + 1` of a with weights of 4 bits, and moves w
/// behind the panel's eight k.
template <int kLane, size_t kRows, size_t kVectors>
EDGEKIT_INLINE void multiply_nibbles(int32x4_t (&acc)[kRows][kVectors], const int8x16_t (&a)[kRows],
                                     const int8_t*& w) {
  EDGEKIT_UNROLL
  for (size_t v = 0; v < kVectors; ++v) {
    const int8x16_t bytes = load_next(w);
    const int8x16_t first = lower_halves(bytes);
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) dot<kLane>(acc[r][v], first, a[r]);
    const int8x16_t second = upper_halves(bytes);
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) dot<kLane + 1>(acc[r][v], second, a[r]);
  }
  w += kNr * kKr - 16 * kVectors;
}

/// Multiplies the first `count` k of a, at most 16, and moves w behind them.
template <size_t kBits, size_t kRows, size_t kVectors>
EDGEKIT_INLINE void multiply_lanes(int32x4_t (&acc)[kRows][kVectors], const int8x16_t (&a)[kRows],
                                   const int8_t*& w, size_t count) {
  if constexpr (kBits == 4) {
    multiply_nibbles<0>(acc, a, w);
    if (count > 8) multiply_nibbles<2>(acc, a, w);
  } else {
    multiply<0>(acc, a, w);
    if (count > 4) multiply<1>(acc, a, w);
    if (count > 8) multiply<2>(acc, a, w);
    if (count > 12) multiply<3>(acc, a, w);
  }
}

/// Stores the codes of a tile, `make_codes(sums, scales)`, and moves y behind its rows. Of 8
/// columns, a vector of codes holds two rows.
template <size_t kRows, size_t kVectors, class MakeCodes>
EDGEKIT_INLINE void store_tile(const int32x4_t (&acc)[kRows][kVectors], const float* scale,
                               uint8_t*& y, size_t y_stride, MakeCodes make_codes) {
  if constexpr (kVectors == 4) {
    const Scales16 scales = load_scales(scale);
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      const Sums16 sums = {{acc[r][0], acc[r][1], acc[r][2], acc[r][3]}};
      store_next(y, make_codes(sums, scales), y_stride);
    }
  } else {
    const float32x4_t low = vld1q_f32(scale);
    const float32x4_t high = vld1q_f32(scale + 4);
    const Scales16 scales = {{low, high, low, high}};
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; r += 2) {
      constexpr size_t kNext = kRows == 1 ? 0 : 1;
      const Sums16 sums = {{acc[r][0], acc[r][1], acc[r + kNext][0], acc[r + kNext][1]}};
      const int8x16_t codes = make_codes(sums, scales);
      vst1_s8(reinterpret_cast<int8_t*>(y), vget_low_s8(codes));
      y += y_stride;
      if constexpr (kRows != 1) {
        vst1_s8(reinterpret_cast<int8_t*>(y), vget_high_s8(codes));
        y += y_stride;
      }
    }
  }
}

/// Computes rows [begin, end), a multiple of kRows, of the `4 * kVectors` columns from `column` on,
/// where a panel begins.
template <size_t kBits, size_t kRows, size_t kVectors>
void run_panel(const GemmArgs& args, const NeonRequantize& requantize, size_t begin, size_t end,
               size_t column) {
  const size_t taps = args.taps;
  constexpr size_t kStep = kKr * 8 / kBits;
  const int8_t* panel = args.w + column * taps * ((args.k + kStep - 1) / kStep * kStep) * kBits / 8;
  const size_t steps = args.k / 16;
  const size_t rest = args.k % 16;
  const bool direct =
      column + 4 * kVectors <= args.n && args.output == Output::kCodes && requantize.is_bounded();
  const bool fast = direct && requantize.is_fast();
  const float32x4_t shift = requantize.shift();
  constexpr bool kFuses = kRows == kMr && 4 * kVectors == kNr && kBits == 8;
  const FusedRequantize fused = kFuses ? find_fused(args, column) : FusedRequantize();
  const int32_t* bias = fused.start != nullptr ? fused.start : args.bias + column;
  const float* scale = args.requantize.scale + column;
  const size_t a_stride = args.a_stride;
  const uint8_t* a_next = args.a + begin * a_stride;
  const size_t y_stride = args.y_stride;
  uint8_t* y = static_cast<uint8_t*>(args.y) + begin * y_stride + column;
  for (size_t row = begin; row < end; row += kRows) {
    int32x4_t acc[kRows][kVectors];
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      if constexpr (kFuses) {
        load_four(bias, acc[r], r);
      } else {
        EDGEKIT_UNROLL
        for (size_t v = 0; v < kVectors; v += 2) load_pair_at(bias + 4 * v, &acc[r][v]);
      }
    }

    const int8_t* w = panel;
    for (size_t tap = 0; tap < taps; ++tap) {
      const int8_t* rows[kRows];
      int8x16_t a[kRows];
      if (args.rows != nullptr) {
        EDGEKIT_UNROLL
        for (size_t r = 0; r < kRows; ++r) {
          rows[r] = reinterpret_cast<const int8_t*>(args.rows[(row + r) * taps + tap]);
        }
      } else {
        EDGEKIT_UNROLL
        for (size_t r = 0; r < kRows; ++r, a_next += a_stride) {
          rows[r] = reinterpret_cast<const int8_t*>(a_next);
        }
      }
      for (size_t step = steps; step != 0; --step) {
        EDGEKIT_UNROLL
        for (size_t r = 0; r < kRows; ++r) a[r] = load_next(rows[r]);
        multiply_lanes<kBits>(acc, a, w, 16);
      }
      if (rest != 0) {
        EDGEKIT_UNROLL
        for (size_t r = 0; r < kRows; ++r) a[r] = load_next(rows[r]);
        multiply_lanes<kBits>(acc, a, w, rest);
      }
    }

    if constexpr (kFuses) {
      if (fused.start != nullptr) {
        store_fused(acc, requantize, fused, y, y_stride);
        continue;
      }
    }
    if (fast) {
      store_tile(acc, scale, y, y_stride, [&](const Sums16& sums, const Scales16& scales) {
        return NeonRequantize::fast_codes(sums.v, scales.v, shift);
      });
      continue;
    }
    if (direct) {
      store_tile(acc, scale, y, y_stride, [&](const Sums16& sums, const Scales16& scales) {
        return requantize.bounded_codes(sums, scales);
      });
      continue;
    }
    int32_t sums[kRows * kNr];
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      EDGEKIT_UNROLL
      for (size_t v = 0; v < kVectors; ++v) vst1q_s32(sums + r * kNr + 4 * v, acc[r][v]);
    }
    store_rows_arm_neon(args, sums, kRows, row, column);
  }
}

/// Computes rows [begin, end) of the panel at `column`: in tiles as high as there are rows left.
template <size_t kBits, size_t kVectors>
void run_rows(const GemmArgs& args, const NeonRequantize& requantize, size_t begin, size_t end,
              size_t column) {
  const size_t full = begin + (end - begin) / kMr * kMr;
  if (begin < full) run_panel<kBits, kMr, kVectors>(args, requantize, begin, full, column);
  size_t row = full;
  // Fewer variants for 4 bits, so that the program stays small.
  if constexpr (kBits == 4) {
    for (; end - row >= 2; row += 2) {
      run_panel<kBits, 2, kVectors>(args, requantize, row, row + 2, column);
    }
  } else if (end - row >= 4) {
    run_panel<kBits, 4, kVectors>(args, requantize, row, row + 4, column);
    row += 4;
  }
  if (end - row >= 2) {
    run_panel<kBits, 2, kVectors>(args, requantize, row, row + 2, column);
    row += 2;
  }
  if (row < end) run_panel<kBits, 1, kVectors>(args, requantize, row, end, column);
}

template <size_t kBits>
EDGEKIT_INLINE void gemm(const GemmArgs& args) {
  const NeonRequantize requantize(args.requantize);
  const size_t tile_bytes = (args.taps * args.k + 1) * kMr;
  const size_t block = tile_bytes < kBlockBytes ? kBlockBytes / tile_bytes * kMr : kMr;
  for (size_t begin = 0; begin < args.m; begin += block) {
    const size_t end = args.m - begin < block ? args.m : begin + block;
    for (size_t column = 0; column < args.n; column += kNr) {
      if constexpr (kBits == 8) {
        if (args.n - column <= kNr / 2) {
          run_rows<kBits, 2>(args, requantize, begin, end, column);
          continue;
        }
      }
      run_rows<kBits, 4>(args, requantize, begin, end, column);
    }
  }
}

}  // namespace

void gemm_s8_s8c_s8_6x16c4_arm_neondot(const GemmArgs& args) { gemm<8>(args); }

void gemm_s8_s4c_s8_6x16c4_arm_neondot(const GemmArgs& args) { gemm<4>(args); }

}  // namespace edgekit
