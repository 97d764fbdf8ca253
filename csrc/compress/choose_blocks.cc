#include "compress/choose_blocks.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace edgekit::compress {
namespace {

/// Returns U_ic of the factor, c < i.
double unit(const Factor& factor, size_t i, size_t c) {
  return factor.tile(i / kTile)[c * kTile + i % kTile];
}

}  // namespace

size_t count_blocks(const MaskRule& mask, const BlockDomain& domain) {
  return ((domain.to - domain.from + mask.columns - 1) / mask.columns) *
         ((domain.last_row - domain.first_row + mask.rows - 1) / mask.rows);
}

void choose_blocks(const Factor& factor, const MaskRule& mask, const BlockDomain& domain,
                   const double* ahead, size_t ahead_step, size_t count, uint8_t* kept) {
  const size_t rows = domain.last_row - domain.first_row;
  const size_t across = (domain.to - domain.from + mask.columns - 1) / mask.columns;
  std::vector<double> costs(count_blocks(mask, domain));
  for (size_t i = domain.from; i < domain.to; ++i) {
    const size_t column = (i - domain.from) / mask.columns;
    const size_t first = domain.from + column * mask.columns;
    for (size_t r = 0; r < rows; ++r) {
      double moved = ahead[(i - domain.from) * ahead_step + r];
      for (size_t c = first; c < i; ++c) {
        moved += unit(factor, i, c) * ahead[(c - domain.from) * ahead_step + r];
      }
      const double cost = factor.pivot(i) * moved;
      costs[r / mask.rows * across + column] += cost * cost;
    }
  }
  std::vector<size_t> ranks(costs.size());
  std::iota(ranks.begin(), ranks.end(), size_t{0});
  const auto cut = ranks.begin() + static_cast<ptrdiff_t>(std::min(count, ranks.size()));
  std::nth_element(ranks.begin(), cut, ranks.end(), [&](size_t a, size_t b) {
    return costs[a] != costs[b] ? costs[a] > costs[b] : a < b;
  });
  std::vector<uint8_t> keeps(costs.size());
  for (auto rank = ranks.begin(); rank != cut; ++rank) keeps[*rank] = 1;
  for (size_t r = 0; r < rows; ++r) {
    uint8_t* to = kept + (domain.first_row + r) * factor.depth();
    for (size_t i = domain.from; i < domain.to; ++i) {
      to[factor.order()[i]] = keeps[r / mask.rows * across + (i - domain.from) / mask.columns];
    }
  }
}

}  // namespace edgekit::compress
