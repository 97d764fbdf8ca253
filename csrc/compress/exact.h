#pragma once

#include <cstddef>
#include <cstdint>

#include "compress/crew.h"

namespace edgekit::compress {

/// Rows of weights with few inputs, whose order is chosen for each row: exact greedy steps
/// (Optimal Brain Surgeon; Optimal Brain Compression, Frantar et al., 2022).
///
/// M = (H + d I)^-1 by sweeping, d as for Factor. Deciding column c of those left, m = w_c - q_c,
/// costs m^2 / M_cc; then, each operation rounded by itself,
///
///     r_j = M_cj / M_cc;  M_ij -= M_ic r_j;  w_j -= m r_j.
///
/// First `removed` weights of a row become 0, each time the one that costs least (of those of which
/// kept is 0, where it is given). Then, where the row is rounded, each time the one that costs
/// least goes to its nearest code, but before it one that is more than half a step away from its
/// code, since it is out of reach: the farthest of these. The first of equals.
struct ExactRows {
  size_t groups;
  /// Rows of a group.
  size_t rows;
  size_t depth;
  /// [groups, depth, depth].
  const double* h;
  double damping;
  /// [groups, rows, depth].
  const double* weights;
  /// [groups, rows, depth]: weights to remove are 0. Null: as many of each row as `removed` says.
  const uint8_t* kept;
  size_t removed;
  bool rounds;
  double low;
  double high;
  /// [groups, rows]; null where nothing is rounded.
  const double* scales;
  /// [groups, rows, depth]; null where nothing is rounded.
  int8_t* codes;
  /// q, [groups, rows, depth].
  double* result;
  /// e^T (H + d I) e, [groups, rows].
  double* costs;
};

/// Decides all rows. Returns the first group whose H + d I is not positive definite, or -1.
ptrdiff_t solve_exactly(const ExactRows& problem, Crew& crew, const Progress& progress);

}  // namespace edgekit::compress
