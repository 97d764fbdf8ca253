#include "compress/factor.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace edgekit::compress {
namespace {

// Rows that are computed before those above them lose their terms.
constexpr size_t kBlockTiles = 8;
constexpr size_t kBlock = kBlockTiles * kTile;

/// The matrix while it becomes A, and what its blocks need.
class Elimination {
 public:
  Elimination(std::vector<double>* h, size_t tiles, Update update, Crew* crew)
      : h_(*h),
        step_(tiles * kTile),
        update_(update),
        crew_(*crew),
        rows_(tiles * kBlock * kTile),
        minus_(tiles * kBlock * kTile) {}

  /// Makes rows [begin, end) those of A and takes their terms from the rows above.
  /// Returns the row whose pivot is not positive, or -1.
  ptrdiff_t run(size_t begin, size_t end, double* pivots) {
    for (size_t i = end; i-- > begin;) {
      const double left = h_[i * step_ + i];
      if (!(left > 0) || !std::isfinite(left)) return static_cast<ptrdiff_t>(i);
      pivots[i] = std::sqrt(left);
      double* row = &h_[i * step_];
      for (size_t j = begin; j < i; ++j) row[j] /= pivots[i];
      for (size_t j = begin; j < i; ++j) {
        double* above = &h_[j * step_];
        for (size_t l = begin; l <= j; ++l) above[l] -= row[j] * row[l];
      }
    }
    const size_t depth = end - begin;
    crew_.run(begin / kTile, [&](size_t tile, size_t) { solve_columns(tile, begin, end, pivots); });
    crew_.run(begin / kTile, [&](size_t unit, size_t) {
      const size_t tile = begin / kTile - 1 - unit;
      UpdateArgs args;
      args.c = &h_[tile * kTile * step_];
      args.c_step = step_;
      args.x = &minus_[tile * kBlock * kTile];
      args.y = rows_.data();
      args.y_step = kBlock * kTile;
      args.tiles = tile + 1;
      args.depth = depth;
      update_(args);
    });
    return -1;
  }

 private:
  /// Columns of a tile of rows [begin, end), packed in the order in which rows are eliminated.
  void solve_columns(size_t tile, size_t begin, size_t end, const double* pivots) {
    double* packed = &rows_[tile * kBlock * kTile];
    double* negative = &minus_[tile * kBlock * kTile];
    for (size_t i = end; i-- > begin;) {
      double* row = &h_[i * step_ + tile * kTile];
      for (size_t p = end; --p > i;) {
        const double factor = h_[p * step_ + i];
        const double* lower = &h_[p * step_ + tile * kTile];
        for (size_t lane = 0; lane < kTile; ++lane) row[lane] -= factor * lower[lane];
      }
      for (size_t lane = 0; lane < kTile; ++lane) {
        row[lane] /= pivots[i];
        packed[(end - 1 - i) * kTile + lane] = row[lane];
        negative[(end - 1 - i) * kTile + lane] = -row[lane];
      }
    }
  }

  std::vector<double>& h_;
  const size_t step_;
  const Update update_;
  Crew& crew_;
  std::vector<double> rows_;
  std::vector<double> minus_;
};

}  // namespace

Factor::Factor(const double* h, const size_t* order, size_t depth, double damping, Isa isa,
               Crew& crew, const Progress& progress)
    : depth_(depth),
      tiles_(count_tiles(depth)),
      order_(order, order + depth),
      pivots_(tiles_ * kTile, 1.0) {
  const size_t step = tiles_ * kTile;
  double mean = 0.0;
  for (size_t i = 0; i < depth; ++i) mean += h[i * depth + i];
  mean /= static_cast<double>(depth);
  const double damp = mean > 0 ? mean * damping : 1.0;
  std::vector<double> work(step * step);
  for (size_t i = 0; i < step; ++i) {
    if (i >= depth) {
      work[i * step + i] = 1.0;
      continue;
    }
    for (size_t j = 0; j <= i; ++j) {
      const size_t row = std::max(order[i], order[j]);
      const size_t column = std::min(order[i], order[j]);
      work[i * step + j] = h[row * depth + column];
    }
    work[i * step + i] += damp;
  }

  Elimination elimination(&work, tiles_, select_update(isa), &crew);
  for (size_t end = step; end > 0;) {
    if (progress) progress(step - end, step);
    const size_t begin = (end - 1) / kBlock * kBlock;
    const ptrdiff_t failed = elimination.run(begin, end, pivots_.data());
    if (failed >= 0) {
      throw std::domain_error(
          "the Hessian of " + std::to_string(depth) + " inputs is not positive definite at the " +
          std::to_string(order_[static_cast<size_t>(failed)]) + "th: take more damping");
    }
    end = begin;
  }
  unit_.resize(tiles_ * (tiles_ + 1) / 2 * kTile * kTile);
  for (size_t i = 0; i < depth; ++i) {
    double* to = unit_.data() + (tile(i / kTile) - unit_.data()) + i % kTile;
    for (size_t c = 0; c < i; ++c) to[c * kTile] = work[i * step + c] / pivots_[i];
  }
  if (progress) progress(step, step);
}

}  // namespace edgekit::compress
