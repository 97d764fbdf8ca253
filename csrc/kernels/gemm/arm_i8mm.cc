#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_arm_neon.h"
#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"

namespace edgekit {
namespace {

// Registers of a full tile: 6 rows by 16 columns of int32 in 24 of them, 16 k of each of the 6 rows
// of a in 6, and 2 for w. smmla multiplies two rows by two columns, 8 k of each, so a pair of rows
// lies in a register, and of w a pair of columns:
//
//                           w k 0..7 | columns 0 1    columns 2 3   ...   columns 14 15
//   a k 0..7 | rows 0 1             acc[0][0]       acc[0][1]           acc[0][7]
//   a k 0..7 | rows 2 3             acc[1][0]          ...
//   a k 0..7 | rows 4 5             acc[2][0]          ...              acc[2][7]
//
//   acc[p][v] = row 2p column 2v, row 2p column 2v + 1, row 2p + 1 column 2v, row 2p + 1 column 2v
//   + 1
//
// For 16 k: 3 loads of pairs of a, 8 of pairs of w, 48 smmla. Memory holds one row behind the
// other, so each two are interleaved before: once for all columns where that pays (kFewPanels),
// else for each tile, which costs 6 loads and 6 zips.
constexpr size_t kMr = 6;
constexpr size_t kNr = 16;
constexpr size_t kKr = 8;
// A load of a row: 8 k for each of two multiplications.
constexpr size_t kStep = 2 * kKr;
// Bytes of a that one block of rows may fill, so that it stays in the first-level cache while all
// of w passes by.
constexpr size_t kBlockBytes = 24 * 1024;
// Interleaving a block of rows takes as many instructions as two panels save by it.
constexpr size_t kFewPanels = 2;

/// Multiplies two rows by two columns, 8 k of each, and adds the products.
///
/// Volatile keeps the loads and multiplies in the written order: g++ would load all of w early and
/// move accumulators to the stack, as every register is taken.
inline void multiply_pairs(int32x4_t& acc, int8x16_t rows, int8x16_t columns) {
  asm volatile("smmla %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(rows), "w"(columns));
}

/// Multiplies 8 k, those in a[.][kHalf], and moves w behind the panel's 8 k.
template <size_t kHalf, size_t kPairs, size_t kVectors>
EDGEKIT_INLINE void multiply(int32x4_t (&acc)[kPairs][kVectors], const int8x16_t (&a)[kPairs][2],
                             const int8_t*& w) {
  constexpr size_t kBytes = kNr * kKr;
  EDGEKIT_UNROLL
  for (size_t v = 0; v < kVectors; v += 2) {
    int8x16_t columns[2];
    // The last one steps over what a narrow tile leaves out.
    if (v + 2 < kVectors) {
      load_pair_next(w, columns);
    } else {
      load_pair_next<kBytes - 16 * (kVectors - 2)>(w, columns);
    }
    EDGEKIT_UNROLL
    for (size_t i = 0; i < 2; ++i) {
      EDGEKIT_UNROLL
      for (size_t p = 0; p < kPairs; ++p) multiply_pairs(acc[p][v + i], a[p][kHalf], columns[i]);
    }
  }
}

/// Loads 16 k of two rows: a[0] holds the first 8 of both, a[1] the others.
EDGEKIT_INLINE void interleave_next(const int8_t*& even, const int8_t*& odd, int8x16_t (&a)[2]) {
  a[1] = load_next(even);
  const int8x16_t other = load_next(odd);
  asm volatile("zip1 %0.2d, %1.2d, %2.2d\n\tzip2 %1.2d, %1.2d, %2.2d"
               : "=&w"(a[0]), "+w"(a[1])
               : "w"(other));
}

/// Loads 16 k of each pair of rows: from `next[p]` where they are interleaved, else from the two
/// rows at `next[2 * p]`.
template <bool kInterleaved, size_t kPairs>
EDGEKIT_INLINE void load_pairs(const int8_t* (&next)[2 * kPairs], int8x16_t (&a)[kPairs][2]) {
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kPairs; ++p) {
    if constexpr (kInterleaved) {
      load_pair_next(next[p], a[p]);
    } else {
      interleave_next(next[2 * p], next[2 * p + 1], a[p]);
    }
  }
}

/// Returns where row `row` of a begins in a tap.
inline const int8_t* find_row(const GemmArgs& args, size_t row, size_t tap) {
  const uint8_t* at =
      args.rows != nullptr ? args.rows[row * args.taps + tap] : args.a + row * args.a_stride;
  return reinterpret_cast<const int8_t*>(at);
}

/// Returns the first 8 k of two rows.
inline int8x16_t zip_first(int8x16_t even, int8x16_t odd) {
  return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(even), vreinterpretq_s64_s8(odd)));
}

/// Returns the last 8 k of two rows.
inline int8x16_t zip_last(int8x16_t even, int8x16_t odd) {
  return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(even), vreinterpretq_s64_s8(odd)));
}

/// Interleaves rows [begin, end) by twos: `[pair][tap][ceil(k / 16)][2][2][8]`. A row without a
/// second one is its own.
void interleave_rows(const GemmArgs& args, size_t begin, size_t end, int8_t* to) {
  const size_t steps = (args.k + kStep - 1) / kStep;
  for (size_t row = begin; row < end; row += 2) {
    const size_t second = row + 1 < end ? row + 1 : row;
    for (size_t tap = 0; tap < args.taps; ++tap) {
      const int8_t* even = find_row(args, row, tap);
      const int8_t* odd = find_row(args, second, tap);
      for (size_t left = steps / 2; left != 0; --left) {
        int8x16_t a[2];
        int8x16_t b[2];
        load_pair_next(even, a);
        load_pair_next(odd, b);
        store_pair_next(to, zip_first(a[0], b[0]), zip_last(a[0], b[0]));
        store_pair_next(to, zip_first(a[1], b[1]), zip_last(a[1], b[1]));
      }
      if (steps % 2 != 0) {
        const int8x16_t a = load_next(even);
        const int8x16_t b = load_next(odd);
        store_pair_next(to, zip_first(a, b), zip_last(a, b));
      }
    }
  }
}

/// The constants of 16 columns, each two of them twice, as they meet an accumulator.
struct Columns {
  Columns(const GemmArgs& args, size_t column) {
    for (size_t i = 0; i < kNr; i += 4) {
      const int64x2_t biases = vreinterpretq_s64_s32(vld1q_s32(args.bias + column + i));
      const float64x2_t scales =
          vreinterpretq_f64_f32(vld1q_f32(args.requantize.scale + column + i));
      vst1q_s32(bias + 2 * i, vreinterpretq_s32_s64(vdupq_laneq_s64(biases, 0)));
      vst1q_s32(bias + 2 * i + 4, vreinterpretq_s32_s64(vdupq_laneq_s64(biases, 1)));
      vst1q_f32(scale + 2 * i, vreinterpretq_f32_f64(vdupq_laneq_f64(scales, 0)));
      vst1q_f32(scale + 2 * i + 4, vreinterpretq_f32_f64(vdupq_laneq_f64(scales, 1)));
    }
  }

  int32_t bias[2 * kNr];
  float scale[2 * kNr];
};

/// What all tiles of a panel have in common.
struct Panel {
  const GemmArgs& args;
  const NeonRequantize& requantize;
  /// Rows from `begin` on as interleave_rows() writes them, or null.
  const int8_t* interleaved;
  size_t begin;
  size_t column;
  Columns columns;
};

/// Writes the sums of a tile row by row.
template <size_t kPairs, size_t kVectors>
EDGEKIT_INLINE void spread_rows(const int32x4_t (&acc)[kPairs][kVectors],
                                int32_t (&sums)[2 * kPairs][kNr]) {
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kPairs; ++p) {
    EDGEKIT_UNROLL
    for (size_t v = 0; v < kVectors; v += 2) {
      const int64x2_t left = vreinterpretq_s64_s32(acc[p][v]);
      const int64x2_t right = vreinterpretq_s64_s32(acc[p][v + 1]);
      vst1q_s32(sums[2 * p] + 2 * v, vreinterpretq_s32_s64(vzip1q_s64(left, right)));
      vst1q_s32(sums[2 * p + 1] + 2 * v, vreinterpretq_s32_s64(vzip2q_s64(left, right)));
    }
  }
}

/// Stores the codes of a pair of rows, 8 columns to an element of `codes`, and moves y behind them.
template <size_t kHalves>
EDGEKIT_INLINE void store_codes_next(uint8_t*& y, size_t y_stride,
                                     const int8x16_t (&codes)[kHalves]) {
  const int16x8_t first = vreinterpretq_s16_s8(codes[0]);
  const int16x8_t last = vreinterpretq_s16_s8(codes[kHalves - 1]);
  const int8x16_t even = vreinterpretq_s8_s16(vuzp1q_s16(first, last));
  const int8x16_t odd = vreinterpretq_s8_s16(vuzp2q_s16(first, last));
  if constexpr (kHalves == 2) {
    store_next(y, even, y_stride);
    store_next(y, odd, y_stride);
  } else {
    vst1_s8(reinterpret_cast<int8_t*>(y), vget_low_s8(even));
    vst1_s8(reinterpret_cast<int8_t*>(y + y_stride), vget_low_s8(odd));
    y += 2 * y_stride;
  }
}

/// Computes rows [begin, end) of the `2 * kVectors` columns from the panel's first on. They are a
/// multiple of `2 * kPairs`, or one row, which then is both of its pair.
template <size_t kPairs, size_t kVectors, bool kInterleaved>
void run_panel(const Panel& panel, size_t begin, size_t end) {
  const GemmArgs& args = panel.args;
  const size_t taps = args.taps;
  const size_t k16 = (args.k + kStep - 1) / kStep * kStep;
  const size_t steps = args.k / kStep;
  const size_t rest = args.k % kStep;
  const size_t second = end - begin > 1 ? 1 : 0;
  const int8_t* panel_w = args.w + panel.column * taps * ((args.k + kKr - 1) / kKr * kKr);
  const bool fast = panel.column + 2 * kVectors <= args.n && args.output == Output::kCodes &&
                    panel.requantize.is_fast();
  const float32x4_t shift = panel.requantize.shift();
  const int32_t* bias = panel.columns.bias;
  const float* scale = panel.columns.scale;
  const int8_t* pair =
      kInterleaved ? panel.interleaved + (begin - panel.begin) * taps * k16 : nullptr;
  // Of a row that is both of its pair, the codes are stored twice.
  const size_t y_stride = second * args.y_stride;
  uint8_t* y = static_cast<uint8_t*>(args.y) + begin * args.y_stride + panel.column;
  for (size_t row = begin; row < end; row += 2 * kPairs) {
    int32x4_t acc[kPairs][kVectors];
    EDGEKIT_UNROLL
    for (size_t p = 0; p < kPairs; ++p) {
      EDGEKIT_UNROLL
      for (size_t v = 0; v < kVectors; v += 2) load_pair_at(bias + 4 * v, &acc[p][v]);
    }

    const int8_t* w = panel_w;
    const int8_t* next[2 * kPairs];
    if (kInterleaved) {
      EDGEKIT_UNROLL
      for (size_t p = 0; p < kPairs; ++p, pair += 2 * taps * k16) next[p] = pair;
    }
    for (size_t tap = 0; tap < taps; ++tap) {
      if (!kInterleaved) {
        EDGEKIT_UNROLL
        for (size_t r = 0; r < 2 * kPairs; ++r) {
          next[r] = find_row(args, row + (r == 1 ? second : r), tap);
        }
      }
      int8x16_t a[kPairs][2];
      for (size_t step = steps; step != 0; --step) {
        load_pairs<kInterleaved>(next, a);
        multiply<0>(acc, a, w);
        multiply<1>(acc, a, w);
      }
      if (rest != 0) {
        load_pairs<kInterleaved>(next, a);
        multiply<0>(acc, a, w);
        if (rest > kKr) multiply<1>(acc, a, w);
      }
    }

    if (fast) {
      constexpr size_t kHalves = kVectors / 4;
      int8x16_t codes[kPairs][kHalves];
      EDGEKIT_UNROLL
      for (size_t h = 0; h < kHalves; ++h) {
        const float* s = scale + kNr * h;
        const float32x4_t scales[4] = {vld1q_f32(s), vld1q_f32(s + 4), vld1q_f32(s + 8),
                                       vld1q_f32(s + 12)};
        EDGEKIT_UNROLL
        for (size_t p = 0; p < kPairs; ++p) {
          const int32x4_t sums[4] = {acc[p][4 * h], acc[p][4 * h + 1], acc[p][4 * h + 2],
                                     acc[p][4 * h + 3]};
          codes[p][h] = NeonRequantize::fast_codes(sums, scales, shift);
        }
      }
      EDGEKIT_UNROLL
      for (size_t p = 0; p < kPairs; ++p) store_codes_next(y, y_stride, codes[p]);
      continue;
    }
    int32_t sums[2 * kPairs][kNr];
    spread_rows(acc, sums);
    store_rows_arm_neon(args, sums[0], second == 0 ? 1 : 2 * kPairs, row, panel.column);
  }
}

/// Computes rows [begin, end) of a panel: in tiles as high as there are rows left.
template <size_t kVectors, bool kInterleaved>
void run_rows(const Panel& panel, size_t begin, size_t end) {
  const size_t full = begin + (end - begin) / kMr * kMr;
  if (begin < full) run_panel<3, kVectors, kInterleaved>(panel, begin, full);
  size_t row = full;
  if (end - row >= 4) {
    run_panel<2, kVectors, kInterleaved>(panel, row, row + 4);
    row += 4;
  }
  if (end - row >= 2) {
    run_panel<1, kVectors, kInterleaved>(panel, row, row + 2);
    row += 2;
  }
  if (row < end) run_panel<1, kVectors, kInterleaved>(panel, row, end);
}

/// Computes rows [begin, end) of all panels.
template <bool kInterleaved>
void run_block(const GemmArgs& args, const NeonRequantize& requantize, const int8_t* interleaved,
               size_t begin, size_t end) {
  for (size_t column = 0; column < args.n; column += kNr) {
    const Panel panel = {args, requantize, interleaved, begin, column, Columns(args, column)};
    if (args.n - column > kNr / 2) {
      run_rows<8, kInterleaved>(panel, begin, end);
    } else {
      run_rows<4, kInterleaved>(panel, begin, end);
    }
  }
}

}  // namespace

void gemm_s8_s8c_s8_6x16c8_arm_i8mm(const GemmArgs& args) {
  const NeonRequantize requantize(args.requantize);
  const size_t row_bytes = args.taps * ((args.k + kStep - 1) / kStep * kStep) + 1;
  const size_t tiles = kBlockBytes / (kMr * row_bytes);
  const size_t block = tiles != 0 ? tiles * kMr : kMr;
  const bool interleaves = tiles != 0 && args.n > kFewPanels * kNr;
  alignas(64) int8_t interleaved[kBlockBytes];
  for (size_t begin = 0; begin < args.m; begin += block) {
    const size_t end = args.m - begin < block ? args.m : begin + block;
    if (interleaves) {
      interleave_rows(args, begin, end, interleaved);
      run_block<true>(args, requantize, interleaved, begin, end);
    } else {
      run_block<false>(args, requantize, nullptr, begin, end);
    }
  }
}

}  // namespace edgekit
