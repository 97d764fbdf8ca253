#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_x86_avx2.h"
#include "kernels/requantize_x86_avx2.h"

// 6 rows by one panel of 16 columns; a step takes 4 of k:
//
//                 b0      b1        32 bytes each: 8 columns
//   row 0   a0    acc00   acc01     a: 4 bytes, broadcast from memory
//   ...
//   row 5   a5    acc50   acc51
//
// 12 accumulators, 2 of b and 1 of a are 15 of the 16 registers. A panel stays in the first-level
// cache while all rows pass by. Rows left over overlap the tile before, or take tiles of 4, 2 and 1
// rows by 1, 2 and 4 panels, since it takes 8 accumulators to hide the latency of a multiply. k
// left over meets zero weights.

namespace edgekit {
namespace {

constexpr size_t kPanel = 16;
constexpr size_t kKr = 4;
constexpr size_t kStepBytes = kPanel * kKr;
constexpr size_t kMr = 6;

size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/// acc[c] += sum over 4 of a (u8) * b (s8), in the encoding that needs no AVX-512.
inline void dot(__m256i& acc_s32x8, __m256i a_u8x32, __m256i b_s8x32) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc_s32x8) : "x"(a_u8x32), "x"(b_s8x32));
}

inline __m256i load32(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

/// Four bytes of a row in every lane.
inline __m256i broadcast(const uint8_t* a) {
  int32_t bytes = 0;
  std::memcpy(&bytes, a, sizeof(bytes));
  return _mm256_set1_epi32(bytes);
}

/// What all tiles of a call share.
struct Call {
  const GemmArgs& args;
  size_t steps;
  size_t panels;
  size_t panel_bytes;
  /// Whether tiles are requantized in registers, as `requantize` says.
  bool bytes_in_registers;
  RequantizePairs requantize;
};

/// Stores `rows` rows of accumulators of the panels from `panel` on, however args.output wants
/// them.
__attribute__((noinline)) void store_accumulators(const Call& call, size_t row, size_t rows,
                                                  size_t panel, size_t panels,
                                                  const __m256i* acc_s32x8) {
  for (size_t i = 0; i < rows; ++i) {
    for (size_t p = panel; p < panel + panels; ++p, acc_s32x8 += 2) {
      store_row(call.args, row + i, p * kPanel, acc_s32x8[0], acc_s32x8[1]);
    }
  }
}

template <int kRows, int kPanels>
__attribute__((noinline)) void tile(const Call& call, size_t row, size_t panel) {
  constexpr int kVectors = 2 * kPanels;
  const GemmArgs& args = call.args;
  const size_t column = panel * kPanel;
  __m256i acc[kRows][kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    acc[0][v] = load32(args.bias + column + 8 * static_cast<size_t>(v));
#pragma GCC unroll 8
    for (int i = 1; i < kRows; ++i) acc[i][v] = acc[0][v];
  }

  const int8_t* w = args.w + panel * call.panel_bytes;
  for (size_t t = 0; t < args.taps; ++t) {
    const uint8_t* a[kRows];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const size_t r = row + static_cast<size_t>(i);
      a[i] = args.rows ? args.rows[r * args.taps + t] : args.a + r * args.a_stride;
    }
    for (size_t step = 0; step < call.steps; ++step, w += kStepBytes) {
      __m256i b[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const size_t p = static_cast<size_t>(v) / 2;
        b[v] = load32(w + p * call.panel_bytes + static_cast<size_t>(v % 2) * 32);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        const __m256i a_i = broadcast(a[i] + step * kKr);
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) dot(acc[i][v], a_i, b[v]);
      }
    }
  }

  if (!call.bytes_in_registers || args.n - column < kPanels * kPanel) {
    __m256i sums[kRows][kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[i][v] = acc[i][v];
    }
    store_accumulators(call, row, kRows, panel, kPanels, sums[0]);
    return;
  }

  // Two outputs side by side: of two rows, or in a single row of two panels.
  uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_stride + column;
#pragma GCC unroll 8
  for (int i = 0; i < kRows; i += 2) {
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) {
      const int second = i + 1 < kRows ? i + 1 : i;
      const float* scale = args.requantize.scale + column + static_cast<size_t>(p) * kPanel;
      const __m256i bytes =
          requantize_pair(call.requantize, scale, &acc[i][2 * p], &acc[second][2 * p]);
      uint8_t* to = y + static_cast<size_t>(p) * kPanel;
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128(bytes));
      if (i + 1 < kRows) {
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + args.y_stride),
                         _mm256_extracti128_si256(bytes, 1));
      }
    }
    y += 2 * args.y_stride;
  }
}

/// Covers all columns of kRows rows.
template <int kRows, int kPanels>
void run_rows(const Call& call, size_t row) {
  size_t panel = 0;
  for (; panel + kPanels <= call.panels; panel += kPanels) tile<kRows, kPanels>(call, row, panel);
  for (; panel < call.panels; ++panel) tile<kRows, 1>(call, row, panel);
}

}  // namespace

void gemm_u8_s8c_u8_6x16c4_x86_avxvnni(const GemmArgs& args) {
  const size_t m = args.m;
  const size_t steps = (args.k + kKr - 1) / kKr;
  const bool bytes_in_registers = args.output == Output::kCodes &&
                                  args.requantize.residual == nullptr &&
                                  products_fit_int32(args.requantize.scale, args.n);
  const Call call{args,
                  steps,
                  (args.n + kPanel - 1) / kPanel,
                  args.taps * steps * kStepBytes,
                  bytes_in_registers,
                  requantize_pairs(args.requantize)};

  const bool overlap = m % kMr > 4 && m > kMr;
  size_t row = overlap ? m : m - m % kMr;
  for (size_t panel = 0; row != 0 && panel < call.panels; ++panel) {
    for (size_t r = 0; r < row; r += kMr) tile<kMr, 1>(call, min_size(r, m - kMr), panel);
  }
  if (m - row >= 4 || (m - row == 3 && m > 4)) {
    run_rows<4, 1>(call, min_size(row, m - 4));
    row = min_size(row + 4, m);
  }
  if (m - row >= 2) {
    run_rows<2, 2>(call, row);
    row += 2;
  }
  if (m - row == 1) run_rows<1, 4>(call, row);
}

}  // namespace edgekit
