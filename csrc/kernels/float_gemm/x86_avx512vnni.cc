#include <immintrin.h>

#include "kernels/float_gemm/blocks.h"

// Up to 8 rows by 1 to 3 panels of 16 columns, or 6 rows by 4; a step takes one k:
//
//                 b0      b1      b2          16 floats of each panel
//   row 0   a0    acc00   acc01   acc02       a: one float, broadcast from memory
//   ...
//   row 7   a7    acc70   acc71   acc72
//
// 24 accumulators, 3 of b and 1 of a are 28 of the 32 registers. A single row takes 8 panels, since
// fewer sums than 8 would wait for each other.

namespace edgekit {
namespace {

constexpr size_t kLanes = 16;

__mmask16 first_lanes(size_t count) {
  return count >= kLanes ? __mmask16{0xFFFF} : static_cast<__mmask16>((1u << count) - 1);
}

template <int kRows, int kPanels>
__attribute__((noinline)) void tile(const FloatGemmArgs& args, const SumPart& part, size_t row,
                                    size_t column) {
  __m512 acc[kRows][kPanels];
  __mmask16 lanes[kPanels];
#pragma GCC unroll 8
  for (int p = 0; p < kPanels; ++p) {
    const size_t c = column + static_cast<size_t>(p) * kLanes;
    lanes[p] = first_lanes(args.n - c);
    const __m512 bias = _mm512_loadu_ps(args.bias + c);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const float* y = row_at(args.y, row + static_cast<size_t>(i), args.y_stride) + c;
      acc[i][p] = part.first ? bias : _mm512_maskz_loadu_ps(lanes[p], y);
    }
  }

  const size_t panel_floats = args.taps * args.k * kLanes;
  for (size_t t = part.tap_begin; t < part.tap_end; ++t) {
    const float* a[kRows];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) a[i] = a_row(args, row + static_cast<size_t>(i), t);
    const float* w = args.w + (column * args.taps + t * kLanes) * args.k + part.k_begin * kLanes;
    for (size_t k = part.k_begin; k < part.k_end; ++k, w += kLanes) {
      __m512 b[kPanels];
#pragma GCC unroll 8
      for (int p = 0; p < kPanels; ++p) {
        b[p] = _mm512_loadu_ps(w + static_cast<size_t>(p) * panel_floats);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        const __m512 value = _mm512_set1_ps(a[i][k]);
#pragma GCC unroll 8
        for (int p = 0; p < kPanels; ++p) acc[i][p] = _mm512_fmadd_ps(value, b[p], acc[i][p]);
      }
    }
  }

  const __m512 lo = _mm512_set1_ps(args.lo);
  const __m512 hi = _mm512_set1_ps(args.hi);
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    const size_t r = row + static_cast<size_t>(i);
    float* y = row_at(args.y, r, args.y_stride) + column;
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) {
      const size_t c = static_cast<size_t>(p) * kLanes;
      __m512 v = acc[i][p];
      if (part.last) {
        if (args.residual != nullptr) {
          const float* residual = row_at(args.residual, r, args.residual_stride) + column + c;
          v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(lanes[p], residual));
        }
        // The second operand where one is NaN: a NaN stays.
        v = _mm512_min_ps(hi, _mm512_max_ps(lo, v));
      }
      _mm512_mask_storeu_ps(y + c, lanes[p], v);
    }
  }
}

template <int kPanels>
void run_tile(const FloatGemmArgs& args, const SumPart& part, size_t row, size_t rows,
              size_t column) {
  switch (rows) {
    case 1:
      return tile<1, kPanels>(args, part, row, column);
    case 2:
      return tile<2, kPanels>(args, part, row, column);
    case 3:
      return tile<3, kPanels>(args, part, row, column);
    case 4:
      return tile<4, kPanels>(args, part, row, column);
    case 5:
      return tile<5, kPanels>(args, part, row, column);
    case 6:
      return tile<6, kPanels>(args, part, row, column);
    case 7:
      return tile<7, kPanels>(args, part, row, column);
    default:
      return tile<8, kPanels>(args, part, row, column);
  }
}

struct Tiles {
  static constexpr size_t kPanel = kLanes;
  static constexpr size_t max_panels(size_t rows) { return rows == 1 ? 8 : 3; }
  static constexpr size_t max_rows(size_t) { return 8; }

  static void run(const FloatGemmArgs& args, const SumPart& part, size_t row, size_t rows,
                  size_t column, size_t panels) {
    switch (panels) {
      case 1:
        return run_tile<1>(args, part, row, rows, column);
      case 2:
        return run_tile<2>(args, part, row, rows, column);
      case 3:
        return run_tile<3>(args, part, row, rows, column);
      case 4:
        return tile<1, 4>(args, part, row, column);
      case 5:
        return tile<1, 5>(args, part, row, column);
      case 6:
        return tile<1, 6>(args, part, row, column);
      case 7:
        return tile<1, 7>(args, part, row, column);
      default:
        return tile<1, 8>(args, part, row, column);
    }
  }
};

}  // namespace

void gemm_f32_f32_f32_8x48_x86_avx512vnni(const FloatGemmArgs& args) { run_blocks<Tiles>(args); }

}  // namespace edgekit
