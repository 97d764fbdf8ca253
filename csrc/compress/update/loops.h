#pragma once

#include <cstddef>

#include "compress/update/update.h"

// The loops of every update kernel, for vectors of the compiler's own. Internal linkage throughout:
// each instruction set compiles its own copy.

namespace edgekit::compress {
namespace {

/// Keeps kRows rows of kTiles tiles of c in registers, kLanes elements each.
template <size_t kLanes, size_t kRows, size_t kTiles>
struct UpdateBlock {
  typedef double Vector __attribute__((vector_size(kLanes * sizeof(double))));
  static constexpr size_t kVectors = kTile / kLanes;

  static Vector load(const double* from) {
    Vector v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
  }

  static void run(const UpdateArgs& args, double* c, const double* x, const double* y) {
    Vector sums[kRows][kTiles * kVectors];
    for (size_t i = 0; i < kRows; ++i) {
      for (size_t v = 0; v < kTiles * kVectors; ++v) {
        sums[i][v] = load(c + i * args.c_step + v * kLanes);
      }
    }
    for (size_t p = 0; p < args.depth; ++p) {
      Vector row[kTiles * kVectors];
      for (size_t v = 0; v < kTiles * kVectors; ++v) {
        row[v] = load(y + v / kVectors * args.y_step + p * kTile + v % kVectors * kLanes);
      }
      for (size_t i = 0; i < kRows; ++i) {
        const double factor = x[p * kTile + i];
        for (size_t v = 0; v < kTiles * kVectors; ++v) {
          sums[i][v] = sums[i][v] + row[v] * factor;
        }
      }
    }
    for (size_t i = 0; i < kRows; ++i) {
      for (size_t v = 0; v < kTiles * kVectors; ++v) {
        __builtin_memcpy(c + i * args.c_step + v * kLanes, &sums[i][v], sizeof(Vector));
      }
    }
  }

  /// All 8 rows of kTiles tiles from `tile` on.
  static void run_rows(const UpdateArgs& args, size_t tile) {
    for (size_t i = 0; i < kTile; i += kRows) {
      run(args, args.c + i * args.c_step + tile * kTile, args.x + i, args.y + tile * args.y_step);
    }
  }
};

}  // namespace
}  // namespace edgekit::compress
