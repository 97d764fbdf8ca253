#pragma once

#include <cstddef>
#include <vector>

#include "isa/isa.h"

namespace edgekit::compress {

/// Columns of a tile. A matrix in tiles holds columns [8 t, 8 t + 8) of all its rows in one piece,
/// `[tile][row][8]`, the last tile filled up.
constexpr size_t kTile = 8;

/// Returns how many tiles hold `columns`.
constexpr size_t count_tiles(size_t columns) { return (columns + kTile - 1) / kTile; }

/// Arguments of an update kernel:
///
///     c[i, j] += x[0, i] * y[0, j];  c[i, j] += x[1, i] * y[1, j];  ...  x[depth - 1, i] * ...
///
/// for 8 rows i and 8 * tiles columns j. Every product and every sum is rounded to float64 by
/// itself and terms are added in the order of p, so that every kernel gives the same bytes.
struct UpdateArgs {
  /// [8, 8 * tiles], rows c_step elements apart.
  double* c;
  size_t c_step;
  /// One tile, [depth, 8].
  const double* x;
  /// Tiles [depth, 8], y_step elements apart.
  const double* y;
  size_t y_step;
  size_t tiles;
  size_t depth;
};

using Update = void (*)(const UpdateArgs& args);

/// A row of kernels.inc.
struct UpdateKernel {
  const char* name;
  Isa isa;
  /// Null when the kernel was not built into this binary.
  Update run;
};

/// Returns every kernel, built or not.
const std::vector<UpdateKernel>& update_kernels();

/// Returns the last kernel that was built and that `isa` can run.
Update select_update(Isa isa);

}  // namespace edgekit::compress
