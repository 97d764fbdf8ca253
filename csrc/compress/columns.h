#pragma once

#include <cstddef>
#include <cstdint>

#include "compress/crew.h"
#include "compress/factor.h"

namespace edgekit::compress {

/// Which weights become 0.
///
/// Blocks are `rows` by `columns` weights. Of the blocks of a domain those are kept whose removal
/// would cost most, (a_ii (t_i + sum U_ic t_c))^2 summed up over their rows and their columns i, c:
/// what the loss grows by if all columns behind them make up for it, none before. A domain is
/// decided when its first column is reached (SparseGPT, Frantar and Alistarh, 2023).
struct MaskRule {
  enum class Kind : uint8_t {
    /// Nothing is removed.
    kNone,
    /// Columns::kept says it.
    kGiven,
    /// A domain is `window` columns of one block's rows: `count` of its blocks are kept.
    kCount,
    /// A domain is `window` columns of all rows: round(density * blocks) of its blocks are kept.
    kDensity,
  };
  Kind kind = Kind::kNone;
  size_t rows = 1;
  size_t columns = 1;
  /// A multiple of `columns`.
  size_t window = 0;
  size_t count = 0;
  double density = 1;
};

/// Rows of weights that share a Factor, each its own problem.
///
/// Columns are decided in the factor's order: column i becomes q_i, which is 0 where it is removed,
/// else t_i, or code * scale where it is rounded, code = clamp(rint(t_i / scale), low, high).
struct Columns {
  size_t rows;
  /// [rows, depth].
  const double* weights;
  MaskRule mask;
  /// [rows, depth], 1 where a weight stays: read for kGiven, written otherwise. Null where there is
  /// no mask.
  uint8_t* kept;
  bool rounds;
  double low;
  double high;
  /// Columns of the weights that share a scale.
  size_t group;
  /// [rows, ceil(depth / group)]: read, or written where parts are given.
  double* scales;
  /// Where not null, a group's scale is found when its first column is reached: of float32(reach *
  /// part), reach the least scale whose codes reach every t, the one with the least sum of
  /// (a_ii (t_i - q_i))^2 over the weights that stay, or may; the first of equals.
  const double* parts;
  size_t part_count;
  /// [rows, depth]; null where nothing is rounded.
  int8_t* codes;
  /// q, [rows, depth].
  double* result;
  /// e^T (H + d I) e of each row.
  double* costs;
};

/// Decides all columns. Sums are in the order of Factor's equations, whatever the number of threads
/// and the instruction set.
void solve_columns(const Factor& factor, const Columns& columns, Isa isa, Crew& crew,
                   const Progress& progress);

}  // namespace edgekit::compress
