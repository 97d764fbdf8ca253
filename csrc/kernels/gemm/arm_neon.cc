#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"

namespace edgekit {
namespace {

// Registers of a full tile: 4 rows by 4 columns, each with an accumulator of four int32 that are
// added up when k is through; 16 k of each row of a in 4, two columns of w in 2, their products of
// int16 in 8:
//
//                    w column 0, k 0..15   column 1   column 2   column 3
//   a row 0, k 0..15      acc[0][0]        acc[0][1]     ...
//   ...                                                            smull  p.8h, a.8b, w.8b
//   a row 3, k 0..15      acc[3][0]           ...                  smlal2 p.8h, a.16b, w.16b
//                                                                  sadalp acc.4s, p.8h
//
// For 16 k: 8 loads and 48 instructions for 256 products.
constexpr size_t kMr = 4;
constexpr size_t kNr = 4;
constexpr size_t kKr = 16;
// Bytes of a that one block of rows may fill, so that it stays in the first-level cache while all
// of w passes by.
constexpr size_t kBlockBytes = 16 * 1024;

/// The 16 k of each row of a that come next, and where those behind them are.
template <size_t kRows>
struct Rows {
  int8x16_t a[kRows];
  const int8_t* next[kRows];

  /// Loads 16 k more, which may lie behind the row's end.
  void advance() {
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) a[r] = load_next(next[r]);
  }
};

/// Adds the products of four columns' `kHalves` times 8 k with those of each row of a, and advances
/// w and the rows.
///
/// Two columns side by side make eight independent chains, and what comes next is loaded before the
/// last adds: a CPU that executes in order would wait otherwise.
template <size_t kHalves, size_t kRows>
inline void multiply(int32x4_t (&acc)[kRows][kNr], Rows<kRows>& rows, const int8_t*& w) {
  int8x16_t columns[2] = {load_at<0>(w), load_at<kKr>(w)};
  EDGEKIT_UNROLL
  for (size_t c = 0; c < kNr; c += 2) {
    int16x8_t products[2][kRows];
    EDGEKIT_UNROLL
    for (size_t i = 0; i < 2; ++i) {
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) products[i][r] = multiply_low(rows.a[r], columns[i]);
    }
    if constexpr (kHalves == 2) {
      EDGEKIT_UNROLL
      for (size_t i = 0; i < 2; ++i) {
        EDGEKIT_UNROLL
        for (size_t r = 0; r < kRows; ++r) add_multiply_high(products[i][r], rows.a[r], columns[i]);
      }
    }
    if (c + 2 < kNr) {
      columns[0] = load_at<2 * kKr>(w);
      columns[1] = load_at<3 * kKr>(w);
    } else {
      w += kNr * kKr;
      rows.advance();
    }
    EDGEKIT_UNROLL
    for (size_t i = 0; i < 2; ++i) {
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) add_pairs(acc[r][c + i], products[i][r]);
    }
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
    int32_t words[kNr];
    vst1q_s32(words, args.output == Output::kInt32
                         ? sums[r]
                         : vreinterpretq_s32_f32(vmulq_f32(vcvtq_f32_s32(sums[r]), scale)));
    __builtin_memcpy(y + column * sizeof(words[0]), words, columns * sizeof(words[0]));
  }
}

/// Returns the sum of the lanes of each of four vectors.
inline int32x4_t add_lanes(const int32x4_t (&acc)[kNr]) {
  return vpaddq_s32(vpaddq_s32(acc[0], acc[1]), vpaddq_s32(acc[2], acc[3]));
}

/// Computes rows [begin, end), a multiple of kRows, of the panel of four columns from `column` on.
template <size_t kRows>
void run_panel(const GemmArgs& args, const NeonRequantize& requantize, size_t begin, size_t end,
               size_t column) {
  const size_t taps = args.taps;
  // All 16 k of a step, as far as there are more than 8, and a last half step.
  const size_t steps = (args.k + 7) / kKr;
  const bool half_step = args.k > steps * kKr;
  const bool plain_codes = kRows == kMr && column + kNr <= args.n &&
                           args.output == Output::kCodes && !requantize.has_residual();
  const int8_t* panel = args.w + column * taps * ((args.k + kKr - 1) / kKr * kKr);
  for (size_t row = begin; row < end; row += kRows) {
    int32x4_t acc[kRows][kNr];
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      EDGEKIT_UNROLL
      for (size_t c = 0; c < kNr; ++c) acc[r][c] = vdupq_n_s32(0);
    }
    const int8_t* w = panel;
    for (size_t tap = 0; tap < taps; ++tap) {
      Rows<kRows> rows;
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) {
        const uint8_t* begin_of_row =
            args.rows ? args.rows[(row + r) * taps + tap] : args.a + (row + r) * args.a_stride;
        rows.next[r] = reinterpret_cast<const int8_t*>(begin_of_row);
      }
      rows.advance();
      for (size_t step = steps; step != 0; --step) multiply<2>(acc, rows, w);
      if (half_step) multiply<1>(acc, rows, w);
    }

    const int32x4_t bias = vld1q_s32(args.bias + column);
    int32x4_t sums[kMr] = {bias, bias, bias, bias};
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) sums[r] = vaddq_s32(bias, add_lanes(acc[r]));
    if (plain_codes) {
      const float32x4_t scale = vld1q_f32(args.requantize.scale + column);
      const int8x16_t codes =
          requantize.codes({{sums[0], sums[1], sums[2], sums[3]}}, {{scale, scale, scale, scale}});
      uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_stride + column;
      store_codes_4x4(y, args.y_stride, codes, kMr, kNr);
    } else {
      store_tile(args, requantize, sums, kRows, row, column);
    }
  }
}

using RunPanel = void (*)(const GemmArgs& args, const NeonRequantize& requantize, size_t begin,
                          size_t end, size_t column);

// For the rows that are left over, by their number.
constexpr RunPanel kRunRest[kMr] = {nullptr, run_panel<1>, run_panel<2>, run_panel<3>};

}  // namespace

void gemm_s8_s8c_s8_4x4c16_arm_neon(const GemmArgs& args) {
  const NeonRequantize requantize(args.requantize);
  const size_t tile_bytes = (args.taps * args.k + 1) * kMr;
  const size_t block = tile_bytes < kBlockBytes ? kBlockBytes / tile_bytes * kMr : kMr;
  for (size_t begin = 0; begin < args.m; begin += block) {
    const size_t end = args.m - begin < block ? args.m : begin + block;
    const size_t rest = (end - begin) % kMr;
    for (size_t column = 0; column < args.n; column += kNr) {
      run_panel<kMr>(args, requantize, begin, end - rest, column);
      if (rest != 0) kRunRest[rest](args, requantize, end - rest, end, column);
    }
  }
}

}  // namespace edgekit
