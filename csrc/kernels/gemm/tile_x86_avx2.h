#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/requantize_x86_avx2.h"

// The way of a tile of accumulators from 256-bit registers to bytes of the output. The functions
// are static, so that no code built for this instruction set is shared with the rest of the
// program.

namespace edgekit {

/// Columns of two registers of sums.
constexpr size_t kPairColumns = 16;

/// How a tile is stored.
enum class PairEpilogue : uint8_t {
  kProducts,      ///< bytes, requantized in registers
  kResidualSums,  ///< bytes, requantized and added to a residual in registers
  kOther,         ///< by way of memory: int32, float32, and products or sums that may leave int32
};

/// Returns how the tiles of a call are stored.
static inline PairEpilogue find_epilogue(const GemmArgs& args) {
  const Requantize& requantize = args.requantize;
  if (args.output != Output::kCodes) return PairEpilogue::kOther;
  if (requantize.residual != nullptr) {
    return residual_sums_fit_int32(requantize) ? PairEpilogue::kResidualSums : PairEpilogue::kOther;
  }
  return products_fit_int32(requantize.scale, args.n) ? PairEpilogue::kProducts
                                                      : PairEpilogue::kOther;
}

/// Returns the constants for packing the products or sums of a call.
static inline RequantizePairs find_requantize_pairs(const Requantize& requantize) {
  if (requantize.residual == nullptr) return requantize_pairs(requantize);
  return requantize_pairs(requantize.sum_lo, requantize.sum_hi, requantize.sum_zero_point);
}

/// Requantizes and stores a tile to rows y_stride apart from `y` on.
template <PairEpilogue kEpilogue, int kRows, int kPanels>
__attribute__((always_inline)) static inline void store_tile(
    const GemmArgs& args, const RequantizePairs& constants, size_t row, size_t column, uint8_t* y,
    size_t y_stride, const __m256i (&acc)[kRows][2 * kPanels]) {
  const Requantize& requantize = args.requantize;
  const float* scale = requantize.scale + column;
  const uint8_t* residual = requantize.residual + row * requantize.residual_stride + column;
  // Two outputs side by side: of two rows, or in a single row twice the same.
#pragma GCC unroll 8
  for (int i = 0; i < kRows; i += 2) {
    const int j = i + 1 < kRows ? i + 1 : i;
    const uint8_t* other = j == i ? residual : residual + requantize.residual_stride;
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) {
      const size_t c = static_cast<size_t>(p) * kPairColumns;
      __m256i bytes;
      if constexpr (kEpilogue == PairEpilogue::kProducts) {
        bytes = requantize_pair(constants, scale + c, &acc[i][2 * p], &acc[j][2 * p]);
      } else {
        bytes =
            pack_pair(constants, rounded_sum(requantize, acc[i][2 * p], scale + c, residual + c),
                      rounded_sum(requantize, acc[i][2 * p + 1], scale + c + 8, residual + c + 8),
                      rounded_sum(requantize, acc[j][2 * p], scale + c, other + c),
                      rounded_sum(requantize, acc[j][2 * p + 1], scale + c + 8, other + c + 8));
      }
      _mm_storeu_si128(reinterpret_cast<__m128i*>(y + c), _mm256_castsi256_si128(bytes));
      if (i + 1 < kRows) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(y + y_stride + c),
                         _mm256_extracti128_si256(bytes, 1));
      }
    }
    y += 2 * y_stride;
    if constexpr (kEpilogue == PairEpilogue::kResidualSums)
      residual += 2 * requantize.residual_stride;
  }
}

}  // namespace edgekit
