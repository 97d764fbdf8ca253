#pragma once

#include <cstddef>
#include <cstdint>

#include "compress/crew.h"
#include "compress/update/update.h"

namespace edgekit::compress {

/// In which order the blocks of a matrix go: always the one whose removal costs least once all that
/// is left makes up for it (Optimal Brain Surgeon, Hassibi and Stork, 1993; for blocks that rows
/// share, ZipLM, Kurtic et al., 2023).
///
/// A panel is `panel` rows that share their zeros, a block `width` columns of it. With M the
/// inverse of the inputs' covariance, removing the columns B costs the sum over the panel's rows of
///
///     w_B^T (M_BB)^-1 w_B.
///
/// Columns go one after the other, each operation rounded by itself:
///
///     l = sqrt(M_cc);  u_j = M_jc / l;  M_ij -= u_i u_j;  z_r = w_rc / l;  w_rj -= z_r u_j
///
/// and a block costs sum over r of (sum over c of z_rc^2), in these orders.
struct Removal {
  size_t rows;
  size_t depth;
  size_t panel;
  size_t width;
  /// Of each `group` blocks that follow each other `keep` stay, or all where there are fewer.
  size_t group;
  size_t keep;
  /// Blocks are ordered by what each costs if no other goes.
  bool alone;
  /// [rows, depth].
  const double* weights;
  /// M, [depth, depth], symmetric; its lower half is read.
  const double* inverse;
  /// [panels, steps]: the blocks, and what each costs when it goes. Of equals the first goes.
  int64_t* order;
  double* costs;

  size_t panels() const { return (rows + panel - 1) / panel; }
  size_t blocks() const { return (depth + width - 1) / width; }
  /// Blocks of a panel that may go.
  size_t steps() const;
};

/// Orders all panels. Returns false where M is not positive definite.
bool order_removal(const Removal& removal, Isa isa, Crew& crew, const Progress& progress);

/// Rows of weights of which some become 0, and the others make up for it: the steps above, for the
/// columns that go in their own order.
struct GivenZeros {
  size_t rows;
  size_t depth;
  size_t supports;
  /// [rows, depth].
  const double* weights;
  /// M, as above.
  const double* inverse;
  /// [supports, depth], 1 where a weight stays.
  const uint8_t* kept;
  /// [rows]: which of the supports a row has.
  const int64_t* support_of;
  /// [rows, depth].
  double* result;
  /// [rows]: the sum of z^2, what the row loses.
  double* costs;
};

/// Decides all rows. Returns false where M is not positive definite.
bool apply_zeros(const GivenZeros& zeros, Isa isa, Crew& crew, const Progress& progress);

}  // namespace edgekit::compress
