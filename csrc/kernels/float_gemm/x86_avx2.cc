#include <immintrin.h>

#include "kernels/float_gemm/blocks.h"

// Up to 6 rows by one panel of 16 columns; a step takes one k:
//
//                 b0      b1            8 floats each
//   row 0   a0    acc00   acc01         a: one float, broadcast from memory
//   ...
//   row 5   a5    acc50   acc51
//
// 12 accumulators, 2 of b and 1 of a are 15 of the 16 registers. A single row takes up to 6 panels,
// since fewer sums than 8 would wait for each other.

namespace edgekit {
namespace {

constexpr size_t kLanes = 8;
constexpr size_t kWidth = 16;
constexpr int kMaxPanels = 6;

/// Selects the first `count` of 8 lanes.
__m256i first_lanes(size_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(smaller(count, kLanes))), lane);
}

/// Returns how many of n columns lie from column c on.
size_t columns_from(size_t c, size_t n) { return c < n ? n - c : 0; }

/// kRows rows by kVectors vectors of 8 columns; two of them are a panel.
template <int kRows, int kVectors>
__attribute__((noinline)) void tile(const FloatGemmArgs& args, const SumPart& part, size_t row,
                                    size_t column) {
  __m256 acc[kRows][kVectors];
#pragma GCC unroll 12
  for (int v = 0; v < kVectors; ++v) {
    const size_t c = column + static_cast<size_t>(v) * kLanes;
    const __m256 bias = _mm256_loadu_ps(args.bias + c);
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) acc[i][v] = bias;
    if (part.first) continue;
    const __m256i lanes = first_lanes(columns_from(c, args.n));
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      const float* y = row_at(args.y, row + static_cast<size_t>(i), args.y_stride) + c;
      acc[i][v] = _mm256_maskload_ps(y, lanes);
    }
  }

  const size_t panel_floats = args.taps * args.k * kWidth;
  for (size_t t = part.tap_begin; t < part.tap_end; ++t) {
    const float* a[kRows];
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) a[i] = a_row(args, row + static_cast<size_t>(i), t);
    const float* w = args.w + (column * args.taps + t * kWidth) * args.k + part.k_begin * kWidth;
    for (size_t k = part.k_begin; k < part.k_end; ++k, w += kWidth) {
      if constexpr (kVectors == 2) {
        const __m256 b0 = _mm256_loadu_ps(w);
        const __m256 b1 = _mm256_loadu_ps(w + kLanes);
#pragma GCC unroll 6
        for (int i = 0; i < kRows; ++i) {
          const __m256 value = _mm256_broadcast_ss(a[i] + k);
          acc[i][0] = _mm256_fmadd_ps(value, b0, acc[i][0]);
          acc[i][1] = _mm256_fmadd_ps(value, b1, acc[i][1]);
        }
      } else {
        const __m256 value = _mm256_broadcast_ss(a[0] + k);
#pragma GCC unroll 12
        for (int v = 0; v < kVectors; ++v) {
          const float* b =
              w + static_cast<size_t>(v / 2) * panel_floats + static_cast<size_t>(v % 2) * kLanes;
          acc[0][v] = _mm256_fmadd_ps(value, _mm256_loadu_ps(b), acc[0][v]);
        }
      }
    }
  }

  const __m256 lo = _mm256_set1_ps(args.lo);
  const __m256 hi = _mm256_set1_ps(args.hi);
#pragma GCC unroll 12
  for (int v = 0; v < kVectors; ++v) {
    const size_t c = column + static_cast<size_t>(v) * kLanes;
    const __m256i lanes = first_lanes(columns_from(c, args.n));
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      const size_t r = row + static_cast<size_t>(i);
      __m256 value = acc[i][v];
      if (part.last) {
        if (args.residual != nullptr) {
          const float* residual = row_at(args.residual, r, args.residual_stride) + c;
          value = _mm256_add_ps(value, _mm256_maskload_ps(residual, lanes));
        }
        // The second operand where one is NaN: a NaN stays.
        value = _mm256_min_ps(hi, _mm256_max_ps(lo, value));
      }
      _mm256_maskstore_ps(row_at(args.y, r, args.y_stride) + c, lanes, value);
    }
  }
}

struct Tiles {
  static constexpr size_t kPanel = kWidth;
  static constexpr size_t max_panels(size_t rows) { return rows == 1 ? kMaxPanels : 1; }
  static constexpr size_t max_rows(size_t) { return 6; }

  static void run(const FloatGemmArgs& args, const SumPart& part, size_t row, size_t rows,
                  size_t column, size_t panels) {
    switch (panels) {
      case 1:
        return run_panel(args, part, row, rows, column);
      case 2:
        return tile<1, 4>(args, part, row, column);
      case 3:
        return tile<1, 6>(args, part, row, column);
      case 4:
        return tile<1, 8>(args, part, row, column);
      case 5:
        return tile<1, 10>(args, part, row, column);
      default:
        return tile<1, 12>(args, part, row, column);
    }
  }

  static void run_panel(const FloatGemmArgs& args, const SumPart& part, size_t row, size_t rows,
                        size_t column) {
    switch (rows) {
      case 1:
        return tile<1, 2>(args, part, row, column);
      case 2:
        return tile<2, 2>(args, part, row, column);
      case 3:
        return tile<3, 2>(args, part, row, column);
      case 4:
        return tile<4, 2>(args, part, row, column);
      case 5:
        return tile<5, 2>(args, part, row, column);
      default:
        return tile<6, 2>(args, part, row, column);
    }
  }
};

}  // namespace

void gemm_f32_f32_f32_6x16_x86_avx2(const FloatGemmArgs& args) { run_blocks<Tiles>(args); }

}  // namespace edgekit
