#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/words_arm_neon.h"
#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"

namespace edgekit {
namespace {

// Registers of a full tile: 4 rows by 4 columns, each with an accumulator of four int32 that are
// added up when k is through; 32 k of each row of a in 8, two columns of w in 4, products of int16
// in 4:
//
//                w column 0, k 0..31   column 1   column 2   column 3
//   a row 0, k 0..31      acc[0][0]        acc[0][1]     ...
//   ...                                                            smull  p.8h, a.8b, w.8b
//   a row 3, k 0..31      acc[3][0]           ...                  smlal2 p.8h, a.16b, w.16b
//                                                                  sadalp acc.4s, p.8h
//
// Two products always fit int16. All four of 32 k do where the magnitudes of their weights add up
// to 255 at most, since 128 * 255 = 32640: then they take one sadalp, see find_wide_steps(). For 32
// k: 6 loads and 80 to 96 instructions for 512 products.
//
// Of weights of 4 bits, the 16 bytes of a column hold k 0..15 in their lower halves and k 16..31 in
// their upper ones. Their products always fit.
constexpr size_t kMr = 4;
constexpr size_t kNr = 4;
constexpr size_t kKr = 32;
// Bytes of a that one block of rows may fill, so that it stays in the first-level cache while all
// of w passes by.
constexpr size_t kBlockBytes = 16 * 1024;

/// What is known of weights.
enum class Weights : uint8_t {
  kBytes,       ///< nothing
  kKnownBytes,  ///< which steps are wide
  kNibbles      ///< they have 4 bits, and no step is wide
};

/// Returns the bits of the next one or two steps, a byte each: all where nothing is known.
template <size_t kSteps, Weights kWeights>
EDGEKIT_INLINE uint32_t next_wide(const uint8_t*& bits) {
  if constexpr (kWeights == Weights::kBytes) return 0x0303;
  uint16_t next = 0;
  __builtin_memcpy(&next, bits, kSteps);
  bits += kSteps;
  return next;
}

// An instruction for each of four rows: the products of their k 0..7 (lower) or 8..15 (upper) of a
// vector with those of w, or their widening sum.
#define EDGEKIT_LOWER(instruction, a, w)                                               \
  instruction " %[p0].8h, %[" a "0].8b, %[" w "].8b\n\t" instruction " %[p1].8h, %[" a \
              "1].8b, %[" w "].8b\n\t" instruction " %[p2].8h, %[" a "2].8b, %[" w     \
              "].8b\n\t" instruction " %[p3].8h, %[" a "3].8b, %[" w "].8b\n\t"
#define EDGEKIT_UPPER(a, w)              \
  "smlal2 %[p0].8h, %[" a "0].16b, %[" w \
  "].16b\n\t"                            \
  "smlal2 %[p1].8h, %[" a "1].16b, %[" w \
  "].16b\n\t"                            \
  "smlal2 %[p2].8h, %[" a "2].16b, %[" w \
  "].16b\n\t"                            \
  "smlal2 %[p3].8h, %[" a "3].16b, %[" w "].16b\n\t"
#define EDGEKIT_WIDEN             \
  "sadalp %[c0].4s, %[p0].8h\n\t" \
  "sadalp %[c1].4s, %[p1].8h\n\t" \
  "sadalp %[c2].4s, %[p2].8h\n\t" \
  "sadalp %[c3].4s, %[p3].8h\n\t"
#define EDGEKIT_MULTIPLY(text)                                                                    \
  asm volatile(text                                                                               \
               : [p0] "=&w"(p[0]), [p1] "=&w"(p[1]), [p2] "=&w"(p[2]), [p3] "=&w"(p[3]),          \
                 [c0] "+w"(acc[0][column]), [c1] "+w"(acc[1][column]), [c2] "+w"(acc[2][column]), \
                 [c3] "+w"(acc[3][column])                                                        \
               : [a0] "w"(a[0][0]), [a1] "w"(a[1][0]), [a2] "w"(a[2][0]), [a3] "w"(a[3][0]),      \
                 [b0] "w"(a[0][1]), [b1] "w"(a[1][1]), [b2] "w"(a[2][1]), [b3] "w"(a[3][1]),      \
                 [v] "w"(w[0]), [w] "w"(w[1]))

/// Computes the products of one column's `kChunks` times 8 k with those of each row of a; adds
/// those of the first two chunks where kWide.
///
/// One statement for a full tile: g++ copies registers between many.
template <size_t kChunks, bool kWide>
EDGEKIT_INLINE void multiply_rows(int32x4_t (&acc)[kMr][kNr], size_t column,
                                  const int8x16_t (&a)[kMr][2], const int8x16_t* w,
                                  int16x8_t (&p)[kMr]) {
  if constexpr (kChunks == 1) {
    EDGEKIT_MULTIPLY(EDGEKIT_LOWER("smull", "a", "v"));
  } else if constexpr (kChunks == 2) {
    EDGEKIT_MULTIPLY(EDGEKIT_LOWER("smull", "a", "v") EDGEKIT_UPPER("a", "v"));
  } else if constexpr (kChunks == 3 && kWide) {
    EDGEKIT_MULTIPLY(EDGEKIT_LOWER("smull", "a", "v") EDGEKIT_UPPER("a", "v")
                         EDGEKIT_WIDEN EDGEKIT_LOWER("smull", "b", "w"));
  } else if constexpr (kChunks == 3) {
    EDGEKIT_MULTIPLY(EDGEKIT_LOWER("smull", "a", "v") EDGEKIT_UPPER("a", "v")
                         EDGEKIT_LOWER("smlal", "b", "w"));
  } else if constexpr (kWide) {
    EDGEKIT_MULTIPLY(EDGEKIT_LOWER("smull", "a", "v") EDGEKIT_UPPER("a", "v")
                         EDGEKIT_WIDEN EDGEKIT_LOWER("smull", "b", "w") EDGEKIT_UPPER("b", "w"));
  } else {
    EDGEKIT_MULTIPLY(EDGEKIT_LOWER("smull", "a", "v") EDGEKIT_UPPER("a", "v")
                         EDGEKIT_LOWER("smlal", "b", "w") EDGEKIT_UPPER("b", "w"));
  }
}

/// The same for fewer rows.
template <size_t kChunks, bool kWide, size_t kRows>
EDGEKIT_INLINE void multiply_rows(int32x4_t (&acc)[kRows][kNr], size_t column,
                                  const int8x16_t (&a)[kRows][2], const int8x16_t* w,
                                  int16x8_t (&products)[kRows]) {
  EDGEKIT_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    products[r] = multiply_low(a[r][0], w[0]);
    if constexpr (kChunks > 1) add_multiply_high(products[r], a[r][0], w[0]);
    if constexpr (kChunks > 2 && kWide) {
      add_pairs(acc[r][column], products[r]);
      products[r] = multiply_low(a[r][1], w[1]);
    } else if constexpr (kChunks > 2) {
      add_multiply_low(products[r], a[r][1], w[1]);
    }
    if constexpr (kChunks > 3) add_multiply_high(products[r], a[r][1], w[1]);
  }
}

/// Adds the products of one column.
template <size_t kChunks, bool kWide, size_t kRows>
EDGEKIT_INLINE void multiply_column(int32x4_t (&acc)[kRows][kNr], size_t column,
                                    const int8x16_t (&a)[kRows][2], const int8x16_t* w) {
  int16x8_t products[kRows];
  multiply_rows<kChunks, kWide>(acc, column, a, w, products);
  EDGEKIT_UNROLL
  for (size_t r = 0; r < kRows; ++r) add_pairs(acc[r][column], products[r]);
}

/// Loads 32 k of two columns, and moves `from` behind them.
template <Weights kWeights>
EDGEKIT_INLINE void load_columns_next(const int8_t*& from, int8x16_t* to) {
  if constexpr (kWeights == Weights::kNibbles) {
    int8x16_t bytes[2];
    load_pair_next(from, bytes);
    to[0] = lower_halves(bytes[0]);
    to[1] = upper_halves(bytes[0]);
    to[2] = lower_halves(bytes[1]);
    to[3] = upper_halves(bytes[1]);
  } else {
    load_four_next(from, to);
  }
}

/// Adds the products of `kChunks` times 8 k, and moves rows and w behind 32 k.
template <size_t kChunks, Weights kWeights, size_t kRows>
EDGEKIT_INLINE void multiply(int32x4_t (&acc)[kRows][kNr], const int8_t* (&rows)[kRows],
                             const int8_t*& next_w, uint32_t wide) {
  int8x16_t w[4];
  load_columns_next<kWeights>(next_w, w);
  int8x16_t a[kRows][2];
  EDGEKIT_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    if constexpr (kChunks > 2) {
      load_pair_next(rows[r], a[r]);
    } else {
      a[r][0] = a[r][1] = load_next(rows[r]);
    }
  }
  if (kChunks > 2 && kWeights != Weights::kNibbles && (wide & 1) != 0) {
    multiply_column<kChunks, true>(acc, 0, a, w + 0);
    multiply_column<kChunks, true>(acc, 1, a, w + 2);
  } else {
    multiply_column<kChunks, false>(acc, 0, a, w + 0);
    multiply_column<kChunks, false>(acc, 1, a, w + 2);
  }
  load_columns_next<kWeights>(next_w, w);
  if (kChunks > 2 && kWeights != Weights::kNibbles && (wide & 2) != 0) {
    multiply_column<kChunks, true>(acc, 2, a, w + 0);
    multiply_column<kChunks, true>(acc, 3, a, w + 2);
  } else {
    multiply_column<kChunks, false>(acc, 2, a, w + 0);
    multiply_column<kChunks, false>(acc, 3, a, w + 2);
  }
}

/// Writes the outputs of `rows` rows of 4 sums each, of every kind.
__attribute__((noinline)) void store_tile(const GemmArgs& args, const NeonRequantize& requantize,
                                          const int32x4_t* sums, size_t rows, size_t row,
                                          size_t column) {
  const size_t columns = args.n - column < kNr ? args.n - column : kNr;
  const float32x4_t scale = vld1q_f32(args.requantize.scale + column);
  uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_stride;
  if (args.output == Output::kCodes) {
    const Sums16 acc = {{sums[0], sums[1], sums[2], sums[3]}};
    const Scales16 scales = {{scale, scale, scale, scale}};
    int8x16_t codes;
    if (requantize.has_residual()) {
      const size_t stride = args.requantize.residual_stride;
      const uint8_t* residual = args.requantize.residual + row * stride + column;
      codes = requantize.add(acc, scales, load_codes_4x4(residual, stride, rows, columns));
    } else {
      codes = requantize.codes(acc, scales);
    }
    return store_codes_4x4(y + column, args.y_stride, codes, rows, columns);
  }
  for (size_t r = 0; r < rows; ++r, y += args.y_stride) {
    int32_t words[kNr] = {};
    load_words_before(args, row + r, column, columns, words);
    vst1q_s32(words, real_words(args.output, sums[r], scale, words));
    __builtin_memcpy(y + column * sizeof(words[0]), words, columns * sizeof(words[0]));
  }
}

/// Returns the sum of the lanes of each of four vectors.
inline int32x4_t add_lanes(const int32x4_t (&acc)[kNr]) {
  return vpaddq_s32(vpaddq_s32(acc[0], acc[1]), vpaddq_s32(acc[2], acc[3]));
}

/// Computes rows [begin, end), a multiple of kRows, of a panel of four columns. `bits` are the
/// panel's wide steps where they are known.
template <size_t kRows, bool kPointers, Weights kWeights>
void run_panel(const GemmArgs& args, const NeonRequantize& requantize, const uint8_t* bits,
               size_t begin, size_t end, size_t panel) {
  const size_t taps = kPointers ? args.taps : 1;
  const size_t column = panel * kNr;
  const size_t steps = args.k / kKr;
  const size_t rest = args.k % kKr;
  const bool full = kRows == kMr && column + kNr <= args.n && args.output == Output::kCodes &&
                    (requantize.has_residual() || requantize.is_bounded());
  // The bias is one of the lanes that are added up.
  int32_t bias[kNr * 4] = {};
  for (size_t c = 0; c < kNr; ++c) bias[4 * c] = args.bias[column + c];
  const float* scale = args.requantize.scale + column;
  const bool fast = requantize.is_fast();
  const float32x4_t shift = requantize.shift();
  const float32x4_t s = vld1q_f32(scale);
  constexpr size_t kWeightsInByte = kWeights == Weights::kNibbles ? 2 : 1;
  const int8_t* panel_w =
      args.w + column * args.taps * ((args.k + kKr - 1) / kKr * kKr) / kWeightsInByte;
  const size_t a_stride = args.a_stride;
  const uint8_t* a_next = args.a + begin * a_stride;
  const uint8_t* const* pointers = args.rows + begin * taps;
  const size_t y_stride = args.y_stride;
  uint8_t* y = static_cast<uint8_t*>(args.y) + begin * y_stride + column;
  const size_t residual_stride = args.requantize.residual_stride;
  const uint8_t* residual = args.requantize.residual;
  if (residual != nullptr) residual += begin * residual_stride + column;
  for (size_t row = begin; row < end; row += kRows) {
    int32x4_t acc[kRows][kNr];
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) load_four(bias, acc[r], r);
    const int8_t* w = panel_w;
    const uint8_t* next_bits = bits;
    for (size_t tap = 0; tap < taps; ++tap) {
      const int8_t* rows[kRows];
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) {
        rows[r] = reinterpret_cast<const int8_t*>(kPointers ? pointers[r * taps + tap] : a_next);
        if (!kPointers) a_next += a_stride;
      }
      if constexpr (kWeights == Weights::kNibbles) {
        // Fewer variants, so that the program stays small: weights behind k are zeros.
        for (size_t left = steps; left != 0; --left) multiply<4, kWeights>(acc, rows, w, 0);
        if (rest > 16) {
          multiply<4, kWeights>(acc, rows, w, 0);
        } else if (rest != 0) {
          multiply<2, kWeights>(acc, rows, w, 0);
        }
        continue;
      }
      for (size_t left = steps / 2; left != 0; --left) {
        const uint32_t two = next_wide<2, kWeights>(next_bits);
        multiply<4, kWeights>(acc, rows, w, two);
        multiply<4, kWeights>(acc, rows, w, two >> 8);
      }
      if (steps % 2 != 0) multiply<4, kWeights>(acc, rows, w, next_wide<1, kWeights>(next_bits));
      if (rest == 0) continue;
      const uint32_t wide = next_wide<1, kWeights>(next_bits);
      if (rest <= 8) {
        multiply<1, kWeights>(acc, rows, w, wide);
      } else if (rest <= 16) {
        multiply<2, kWeights>(acc, rows, w, wide);
      } else if (rest <= 24) {
        multiply<3, kWeights>(acc, rows, w, wide);
      } else {
        multiply<4, kWeights>(acc, rows, w, wide);
      }
    }
    if (kPointers) pointers += kRows * taps;

    if constexpr (kRows == kMr) {
      if (full) {
        const Scales16 scales = {{s, s, s, s}};
        const Sums16 sums = {
            {add_lanes(acc[0]), add_lanes(acc[1]), add_lanes(acc[2]), add_lanes(acc[3])}};
        int8x16_t codes;
        if (fast) {
          codes = NeonRequantize::fast_codes(sums.v, scales.v, shift);
        } else if (residual != nullptr) {
          codes = requantize.add(sums, scales, load_lanes_next(residual, residual_stride));
        } else {
          codes = requantize.bounded_codes(sums, scales);
        }
        store_lanes_next(y, codes, y_stride);
        continue;
      }
    }
    int32x4_t sums[kMr] = {};
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) sums[r] = add_lanes(acc[r]);
    store_tile(args, requantize, sums, kRows, row, column);
  }
}

/// Computes rows [begin, end) of all panels: in tiles as high as there are rows left.
template <bool kPointers, Weights kWeights>
void run_rows(const GemmArgs& args, const NeonRequantize& requantize, size_t begin, size_t end) {
  const size_t panel_steps = args.taps * ((args.k + kKr - 1) / kKr);
  const size_t full = begin + (end - begin) / kMr * kMr;
  for (size_t panel = 0; panel * kNr < args.n; ++panel) {
    if (kWeights == Weights::kBytes && begin < full && args.wide_steps != nullptr) {
      const uint8_t* bits = args.wide_steps + panel * panel_steps;
      run_panel<kMr, kPointers, Weights::kKnownBytes>(args, requantize, bits, begin, full, panel);
    } else if (begin < full) {
      run_panel<kMr, kPointers, kWeights>(args, requantize, nullptr, begin, full, panel);
    }
    size_t row = full;
    if (kWeights != Weights::kNibbles && end - row >= 2) {
      run_panel<2, kPointers, Weights::kBytes>(args, requantize, nullptr, row, row + 2, panel);
      row += 2;
    }
    if (row < end) run_panel<1, kPointers, kWeights>(args, requantize, nullptr, row, end, panel);
  }
}

template <Weights kWeights>
EDGEKIT_INLINE void gemm(const GemmArgs& args) {
  const NeonRequantize requantize(args.requantize);
  const size_t tile_bytes = (args.taps * args.k + 1) * kMr;
  const size_t block = tile_bytes < kBlockBytes ? kBlockBytes / tile_bytes * kMr : kMr;
  for (size_t begin = 0; begin < args.m; begin += block) {
    const size_t end = args.m - begin < block ? args.m : begin + block;
    if (args.rows != nullptr) {
      run_rows<true, kWeights>(args, requantize, begin, end);
    } else {
      run_rows<false, kWeights>(args, requantize, begin, end);
    }
  }
}

}  // namespace

void gemm_s8_s8c_s8_4x4c32_arm_neon(const GemmArgs& args) { gemm<Weights::kBytes>(args); }

void gemm_s8_s4c_s8_4x4c16_arm_neon(const GemmArgs& args) { gemm<Weights::kNibbles>(args); }

}  // namespace edgekit
