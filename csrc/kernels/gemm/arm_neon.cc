#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"

namespace edgekit {
namespace {

// Registers of a full tile: 4 rows by 4 columns, each with an accumulator of four int32 that are
// added up when k is through; 16 k of each row of a in 4, one column of w in 1 or 2, products of
// int16 in the rest:
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

/// Adds the products of four columns' `kHalves` times 8 k with those of each row of a.
template <size_t kHalves, size_t kRows>
inline void multiply(int32x4_t (&acc)[kRows][kNr], const int8x16_t (&a)[kRows], const int8_t* w) {
  EDGEKIT_UNROLL
  for (size_t c = 0; c < kNr; ++c) {
    const int8x16_t column = vld1q_s8(w + kKr * c);
    int16x8_t products[kRows];
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) products[r] = multiply_low(a[r], column);
    if constexpr (kHalves == 2) {
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) add_multiply_high(products[r], a[r], column);
    }
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) add_pairs(acc[r][c], products[r]);
  }
}

/// Writes the outputs of `rows` rows of 4 sums each, of every kind.
void store_tile(const GemmArgs& args, const NeonRequantize& requantize, const int32x4_t* sums,
                size_t rows, size_t row, size_t column) {
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

/// Computes rows [row, row + kRows) of the panel of four columns from `column` on.
template <size_t kRows>
void tile(const GemmArgs& args, const NeonRequantize& requantize, size_t row, size_t column) {
  const int8_t* w = args.w + column * args.taps * ((args.k + kKr - 1) / kKr * kKr);
  int32x4_t acc[kRows][kNr];
  EDGEKIT_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    EDGEKIT_UNROLL
    for (size_t c = 0; c < kNr; ++c) acc[r][c] = vdupq_n_s32(0);
  }

  for (size_t tap = 0; tap < args.taps; ++tap) {
    const uint8_t* rows[kRows];
    int8x16_t a[kRows];
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      rows[r] =
          args.rows ? args.rows[(row + r) * args.taps + tap] : args.a + (row + r) * args.a_stride;
    }
    size_t k = args.k;
    for (; k > 8; k -= k < kKr ? k : kKr) {
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) {
        a[r] = load_codes(rows[r]);
        rows[r] += kKr;
      }
      multiply<2>(acc, a, w);
      w += kNr * kKr;
    }
    if (k > 0) {
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) a[r] = load_codes(rows[r]);
      multiply<1>(acc, a, w);
      w += kNr * kKr;
    }
  }

  const int32x4_t bias = vld1q_s32(args.bias + column);
  int32x4_t sums[kMr] = {bias, bias, bias, bias};
  EDGEKIT_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    const int32x4_t low = vpaddq_s32(acc[r][0], acc[r][1]);
    const int32x4_t high = vpaddq_s32(acc[r][2], acc[r][3]);
    sums[r] = vaddq_s32(bias, vpaddq_s32(low, high));
  }
  store_tile(args, requantize, sums, kRows, row, column);
}

using Tile = void (*)(const GemmArgs& args, const NeonRequantize& requantize, size_t row,
                      size_t column);

// By rows, less one.
constexpr Tile kTiles[kMr] = {tile<1>, tile<2>, tile<3>, tile<4>};

}  // namespace

void gemm_s8_s8c_s8_4x4c16_arm_neon(const GemmArgs& args) {
  const NeonRequantize requantize(args.requantize);
  const size_t row_bytes = args.taps * args.k + 1;
  const size_t block = row_bytes * kMr < kBlockBytes ? kBlockBytes / (row_bytes * kMr) * kMr : kMr;
  for (size_t begin = 0; begin < args.m; begin += block) {
    const size_t end = args.m - begin < block ? args.m : begin + block;
    for (size_t column = 0; column < args.n; column += kNr) {
      for (size_t row = begin; row < end; row += kMr) {
        const size_t rows = end - row < kMr ? end - row : kMr;
        kTiles[rows - 1](args, requantize, row, column);
      }
    }
  }
}

}  // namespace edgekit
