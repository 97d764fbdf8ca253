#include <arm_neon.h>

#include "kernels/float_gemm/blocks.h"

// Up to 8 rows by one panel of 8 columns; a step takes four k:
//
//                 b0      b1            4 floats each, of one k after another
//   row 0   a0    acc00   acc01         a: four k of a row, multiplied lane by lane
//   ...
//   row 7   a7    acc70   acc71
//
// 16 accumulators, 8 of a and 2 of b are 26 of the 32 registers. A single row takes up to 4 panels,
// since fewer sums than 8 would wait for each other.

namespace edgekit {
namespace {

constexpr size_t kWidth = 8;

/// Reads the first `count` of 4 floats.
float32x4_t load_first(const float* from, size_t count) {
  if (count >= 4) return vld1q_f32(from);
  float lanes[4] = {};
  for (size_t i = 0; i < count; ++i) lanes[i] = from[i];
  return vld1q_f32(lanes);
}

void store_first(float* to, float32x4_t value, size_t count) {
  if (count >= 4) return vst1q_f32(to, value);
  float lanes[4];
  vst1q_f32(lanes, value);
  for (size_t i = 0; i < count; ++i) to[i] = lanes[i];
}

/// lo where v < lo, hi where v > hi; a NaN stays.
float32x4_t clamp(float32x4_t v, float32x4_t lo, float32x4_t hi) {
  v = vbslq_f32(vcltq_f32(v, lo), lo, v);
  return vbslq_f32(vcgtq_f32(v, hi), hi, v);
}

/// kRows rows by kVectors vectors of 4 columns; two of them are a panel.
template <int kRows, int kVectors>
__attribute__((noinline)) void tile(const FloatGemmArgs& args, const SumPart& part, size_t row,
                                    size_t column) {
  const auto columns_from = [&args](size_t c) { return c < args.n ? args.n - c : 0; };
  float32x4_t acc[kRows][kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    const size_t c = column + static_cast<size_t>(v) * 4;
    const float32x4_t bias = vld1q_f32(args.bias + c);
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const float* y = row_at(args.y, row + static_cast<size_t>(i), args.y_stride) + c;
      acc[i][v] = part.first ? bias : load_first(y, columns_from(c));
    }
  }

  const size_t panel_floats = args.taps * args.k * kWidth;
  for (size_t t = part.tap_begin; t < part.tap_end; ++t) {
    const float* a[kRows];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) a[i] = a_row(args, row + static_cast<size_t>(i), t);
    const float* w = args.w + (column * args.taps + t * kWidth) * args.k + part.k_begin * kWidth;
    const auto b = [&w, panel_floats](int v) {
      return vld1q_f32(w + static_cast<size_t>(v / 2) * panel_floats + v % 2 * 4);
    };
    size_t k = part.k_begin;
    for (; k + 4 <= part.k_end; k += 4) {
      float32x4_t four[kRows];
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) four[i] = vld1q_f32(a[i] + k);
#define EDGEKIT_STEP(lane)                                            \
  _Pragma("GCC unroll 8") for (int v = 0; v < kVectors; ++v) {        \
    const float32x4_t columns = b(v);                                 \
    _Pragma("GCC unroll 8") for (int i = 0; i < kRows; ++i) {         \
      acc[i][v] = vfmaq_laneq_f32(acc[i][v], columns, four[i], lane); \
    }                                                                 \
  }                                                                   \
  w += kWidth;
      EDGEKIT_STEP(0)
      EDGEKIT_STEP(1)
      EDGEKIT_STEP(2)
      EDGEKIT_STEP(3)
#undef EDGEKIT_STEP
    }
    for (; k < part.k_end; ++k, w += kWidth) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const float32x4_t columns = b(v);
#pragma GCC unroll 8
        for (int i = 0; i < kRows; ++i) acc[i][v] = vfmaq_n_f32(acc[i][v], columns, a[i][k]);
      }
    }
  }

  const float32x4_t lo = vdupq_n_f32(args.lo);
  const float32x4_t hi = vdupq_n_f32(args.hi);
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    const size_t c = column + static_cast<size_t>(v) * 4;
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const size_t r = row + static_cast<size_t>(i);
      float32x4_t value = acc[i][v];
      if (part.last) {
        if (args.residual != nullptr) {
          const float* residual = row_at(args.residual, r, args.residual_stride) + c;
          value = vaddq_f32(value, load_first(residual, columns_from(c)));
        }
        value = clamp(value, lo, hi);
      }
      store_first(row_at(args.y, r, args.y_stride) + c, value, columns_from(c));
    }
  }
}

struct Tiles {
  static constexpr size_t kPanel = kWidth;
  static constexpr size_t max_panels(size_t rows) { return rows == 1 ? 4 : 1; }
  static constexpr size_t max_rows(size_t) { return 8; }

  static void run(const FloatGemmArgs& args, const SumPart& part, size_t row, size_t rows,
                  size_t column, size_t panels) {
    switch (panels) {
      case 1:
        return run_panel(args, part, row, rows, column);
      case 2:
        return tile<1, 4>(args, part, row, column);
      case 3:
        return tile<1, 6>(args, part, row, column);
      default:
        return tile<1, 8>(args, part, row, column);
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
      case 6:
        return tile<6, 2>(args, part, row, column);
      case 7:
        return tile<7, 2>(args, part, row, column);
      default:
        return tile<8, 2>(args, part, row, column);
    }
  }
};

}  // namespace

void gemm_f32_f32_f32_8x8_arm_neon(const FloatGemmArgs& args) { run_blocks<Tiles>(args); }

}  // namespace edgekit
