#pragma once

#include <cstddef>

#include "kernels/float_gemm/float_gemm.h"

// How a float32 GEMM is cut so that its parts stay in cache, for every kernel. Internal linkage
// throughout: each instruction set compiles its own copy.
//
// Rows are cut into blocks whose part of a stays in the second-level cache, columns into blocks of
// whole panels, and a very long sum into parts that are added up in y, in their order.

namespace edgekit {
namespace {

/// A part of every sum: taps [tap_begin, tap_end) and of each the elements [k_begin, k_end).
struct SumPart {
  size_t tap_begin;
  size_t tap_end;
  size_t k_begin;
  size_t k_end;
  /// Whether sums start with the bias; otherwise they go on from y.
  bool first;
  /// Whether residual and clamp follow.
  bool last;
};

/// Products of one sum that are computed before the next rows' are.
constexpr size_t kPartLength = 2048;
/// Elements of a that one block of rows reads in one part.
constexpr size_t kBlockElements = 48 * 1024;

inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
inline size_t larger(size_t a, size_t b) { return a > b ? a : b; }

inline const float* row_at(const float* first, size_t row, size_t stride) {
  return reinterpret_cast<const float*>(reinterpret_cast<const char*>(first) + row * stride);
}

inline float* row_at(float* first, size_t row, size_t stride) {
  return reinterpret_cast<float*>(reinterpret_cast<char*>(first) + row * stride);
}

/// Returns the first element of row m of tap t.
inline const float* a_row(const FloatGemmArgs& args, size_t m, size_t t) {
  return args.rows != nullptr ? args.rows[m * args.taps + t] : row_at(args.a, m, args.a_stride);
}

/// Computes one part of rows [row_begin, row_end): every block of columns in turn, shared out
/// evenly (5 panels are 3 + 2), and of each block every tile of rows, likewise.
template <class Tiles>
inline void run_part(const FloatGemmArgs& args, const SumPart& part, size_t row_begin,
                     size_t row_end) {
  const size_t panels = (args.n + Tiles::kPanel - 1) / Tiles::kPanel;
  const size_t most = Tiles::max_panels(row_end - row_begin);
  const size_t blocks = (panels + most - 1) / most;
  for (size_t b = 0, panel = 0; b < blocks; ++b) {
    const size_t count = (panels - panel + blocks - b - 1) / (blocks - b);
    const size_t tall = Tiles::max_rows(count);
    const size_t tiles = (row_end - row_begin + tall - 1) / tall;
    for (size_t i = 0, row = row_begin; i < tiles; ++i) {
      const size_t rows = (row_end - row + tiles - i - 1) / (tiles - i);
      Tiles::run(args, part, row, rows, panel * Tiles::kPanel, count);
      row += rows;
    }
    panel += count;
  }
}

/// Computes all of the sums of rows [row_begin, row_end).
template <class Tiles>
inline void run_rows(const FloatGemmArgs& args, size_t row_begin, size_t row_end) {
  const size_t depth = args.taps * args.k;
  if (depth <= kPartLength) {
    run_part<Tiles>(args, {0, args.taps, 0, args.k, !args.goes_on, true}, row_begin, row_end);
    return;
  }
  // As many whole taps as fit, or parts of one.
  const size_t taps = larger(kPartLength / args.k, 1);
  const size_t length = smaller(args.k, kPartLength);
  for (size_t t = 0; t < args.taps; t += taps) {
    for (size_t k = 0; k < args.k; k += length) {
      const SumPart part = {t,
                            smaller(t + taps, args.taps),
                            k,
                            smaller(k + length, args.k),
                            t == 0 && k == 0 && !args.goes_on,
                            t + taps >= args.taps && k + length >= args.k};
      run_part<Tiles>(args, part, row_begin, row_end);
    }
  }
}

/// Runs a kernel. Tiles says how: `kPanel`; `max_panels(rows)`, the most panels that a tile spans;
/// `max_rows(panels)`, the most rows of such a tile; and `run(args, part, row, rows, column,
/// panels)`, which computes one tile.
template <class Tiles>
inline void run_blocks(const FloatGemmArgs& args) {
  const size_t length = smaller(larger(args.taps * args.k, 1), kPartLength);
  const size_t tall = Tiles::max_rows(1);
  const size_t block = larger(kBlockElements / length / tall, 1) * tall;
  for (size_t row = 0; row < args.m; row += block) {
    run_rows<Tiles>(args, row, smaller(row + block, args.m));
  }
}

}  // namespace
}  // namespace edgekit
