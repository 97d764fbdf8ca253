#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "compress/columns.h"
#include "compress/factor.h"

namespace edgekit::compress {

/// Columns [from, to), in the factor's order, of rows [first_row, last_row).
struct BlockDomain {
  size_t from;
  size_t to;
  size_t first_row;
  size_t last_row;
};

/// Returns how many blocks a domain has, those at its ends that are cut off included.
size_t count_blocks(const MaskRule& mask, const BlockDomain& domain);

/// How many blocks of each domain are kept, so that those of all come closest to a density.
class BlockBudget {
 public:
  explicit BlockBudget(double density) : density_(density) {}

  /// Returns how many of the next domain's `blocks` stay.
  size_t take(size_t blocks) {
    seen_ += blocks;
    const double wanted = density_ * static_cast<double>(seen_);
    const auto total = static_cast<size_t>(std::floor(wanted + 0.5));
    const size_t count = total - taken_;
    taken_ = total;
    return count;
  }

 private:
  double density_;
  size_t seen_ = 0;
  size_t taken_ = 0;
};

/// Keeps the `count` blocks of a domain whose removal would cost most (see MaskRule), of equals the
/// one that comes first, by rows and then columns: writes 1 or 0 to kept[row, column].
///
/// `ahead`: t of the domain, [column - from][row - first_row], columns ahead_step elements apart.
void choose_blocks(const Factor& factor, const MaskRule& mask, const BlockDomain& domain,
                   const double* ahead, size_t ahead_step, size_t count, uint8_t* kept);

}  // namespace edgekit::compress
