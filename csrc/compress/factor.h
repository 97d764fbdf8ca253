#pragma once

#include <cstddef>
#include <vector>

#include "compress/crew.h"
#include "compress/update/update.h"

namespace edgekit::compress {

/// H + d I = A^T A with A lower triangular: what is decided of columns in order costs.
///
/// With e = w - q of one row of weights, e^T H e = sum_i (a_ii (e_i + sum_{c < i} U_ic e_c))^2,
/// U_ic = A_ic / a_ii. Once e_0 to e_{i-1} are decided, and whatever follows is free, column i
/// would best be t_i = w_i + sum_{c < i} U_ic e_c, and q_i instead costs (a_ii (t_i - q_i))^2.
/// That is the step of GPTQ (Frantar et al., 2022), whose Cholesky factor of H^-1 is A^-1
/// transposed: here nothing is inverted.
///
/// A is computed from its last row to its first,
///
///     a_ii = sqrt(h_ii);  A_ij = h_ij / a_ii;  h_jl -= A_ij A_il  for j, l < i,
///
/// where each h_jl loses its terms in this order, each operation rounded by itself: the same bytes
/// on any number of threads and any instruction set.
class Factor {
 public:
  /// `h`: [depth, depth], its lower triangle is read. Column i of the factor is column order[i] of
  /// h. `damping`: d, in parts of the mean of H's diagonal; 1 where that is 0.
  /// Throws std::domain_error where H + d I is not positive definite.
  Factor(const double* h, const size_t* order, size_t depth, double damping, Isa isa, Crew& crew,
         const Progress& progress);

  size_t depth() const { return depth_; }
  size_t tiles() const { return tiles_; }
  const std::vector<size_t>& order() const { return order_; }

  /// U of tile t, columns [8 t, 8 t + 8) of the solution: [8 t + 8][8], element [c][i] is
  /// U_(8t+i)c, where c < 8 t + i, and 0 elsewhere.
  const double* tile(size_t t) const { return unit_.data() + t * (t + 1) / 2 * kTile * kTile; }

  /// a_ii; 1 where i >= depth().
  double pivot(size_t i) const { return pivots_[i]; }

 private:
  const size_t depth_;
  const size_t tiles_;
  std::vector<size_t> order_;
  std::vector<double> unit_;
  std::vector<double> pivots_;
};

}  // namespace edgekit::compress
