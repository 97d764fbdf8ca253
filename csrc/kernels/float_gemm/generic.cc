#include <cmath>

#include "kernels/float_gemm/blocks.h"

// One row by one panel of 16 columns at a time, for any CPU. std::fma is exact wherever it comes
// from, and slow where the CPU has no such instruction.

namespace edgekit {
namespace {

struct Tiles {
  static constexpr size_t kPanel = 16;
  static constexpr size_t max_panels(size_t) { return 1; }
  static constexpr size_t max_rows(size_t) { return 4; }

  static void run(const FloatGemmArgs& args, const SumPart& part, size_t row, size_t rows,
                  size_t column, size_t) {
    for (size_t i = row; i < row + rows; ++i) run_row(args, part, i, column);
  }

  static void run_row(const FloatGemmArgs& args, const SumPart& part, size_t row, size_t column) {
    const size_t count = smaller(kPanel, args.n - column);
    float* y = row_at(args.y, row, args.y_stride) + column;
    const float* start = part.first ? args.bias + column : y;
    float acc[kPanel] = {};
    for (size_t c = 0; c < count; ++c) acc[c] = start[c];
    for (size_t t = part.tap_begin; t < part.tap_end; ++t) {
      const float* a = a_row(args, row, t);
      const float* w = args.w + (column * args.taps + kPanel * t) * args.k;
      for (size_t k = part.k_begin; k < part.k_end; ++k) {
        for (size_t c = 0; c < kPanel; ++c) acc[c] = std::fma(a[k], w[k * kPanel + c], acc[c]);
      }
    }
    if (part.last) finish(args, row, column, count, acc);
    for (size_t c = 0; c < count; ++c) y[c] = acc[c];
  }

  static void finish(const FloatGemmArgs& args, size_t row, size_t column, size_t count,
                     float* acc) {
    if (args.residual != nullptr) {
      const float* residual = row_at(args.residual, row, args.residual_stride) + column;
      for (size_t c = 0; c < count; ++c) acc[c] = acc[c] + residual[c];
    }
    for (size_t c = 0; c < count; ++c) {
      const float v = acc[c] < args.lo ? args.lo : acc[c];
      acc[c] = v > args.hi ? args.hi : v;
    }
  }
};

}  // namespace

void gemm_f32_f32_f32_generic(const FloatGemmArgs& args) { run_blocks<Tiles>(args); }

}  // namespace edgekit
