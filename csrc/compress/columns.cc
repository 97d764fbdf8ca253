#include "compress/columns.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "compress/choose_blocks.h"
#include "compress/round_even.h"

namespace edgekit::compress {
namespace {

// Tiles of rows that a thread decides together, and rows in them.
constexpr size_t kUnitTiles = 3;
constexpr size_t kUnitRows = kUnitTiles * kTile;
// Rows that are decided between two calls of progress, for each thread.
constexpr size_t kStepUnits = 4;

/// What a thread needs while it decides kUnitRows rows.
struct Scratch {
  /// t of the columns that are looked ahead at, [column][kUnitRows].
  std::vector<double> ahead;
  /// Tile `tile` with the terms of all tiles before it, [8][kUnitRows].
  double base[kTile * kUnitRows];
  size_t unit = SIZE_MAX;
  size_t tile = SIZE_MAX;
};

class Solver {
 public:
  Solver(const Factor& factor, const Columns& columns, Update update)
      : factor_(factor),
        columns_(columns),
        update_(update),
        depth_(factor.depth()),
        step_(factor.tiles() * kTile * kTile),
        units_((count_tiles(columns.rows) + kUnitTiles - 1) / kUnitTiles),
        groups_((depth_ + columns.group - 1) / columns.group),
        weights_(units_ * kUnitTiles * step_),
        errors_(weights_.size()) {
    for (size_t r = 0; r < columns.rows; ++r) {
      double* to = &weights_[r / kTile * step_ + r % kTile];
      const double* from = columns.weights + r * depth_;
      for (size_t i = 0; i < depth_; ++i) to[i * kTile] = from[factor.order()[i]];
    }
    std::fill_n(columns.costs, columns.rows, 0.0);
  }

  size_t units() const { return units_; }

  /// Decides columns [from, to) of a unit's rows; masks that look at one row at a time as well.
  void decide(size_t unit, size_t from, size_t to, Scratch* scratch) {
    const bool finds_scales = columns_.rounds && columns_.parts != nullptr;
    const bool counts = columns_.mask.kind == MaskRule::Kind::kCount && columns_.mask.rows == 1;
    while (from < to) {
      size_t next = to;
      if (finds_scales) next = std::min(next, (from / columns_.group + 1) * columns_.group);
      if (counts) next = std::min(next, (from / columns_.mask.window + 1) * columns_.mask.window);
      if (counts && from % columns_.mask.window == 0) {
        look_ahead(unit, from, next_of(from, columns_.mask.window), scratch);
        choose_count(unit, from, next_of(from, columns_.mask.window), scratch->ahead.data());
      }
      if (finds_scales && from % columns_.group == 0) {
        look_ahead(unit, from, next_of(from, columns_.group), scratch);
        find_scales(unit, from, next_of(from, columns_.group), scratch->ahead.data());
      }
      advance(unit, from, next, scratch,
              [&](size_t i, const double* t, double* e) { decide_column(unit, i, t, e); });
      from = next;
    }
  }

  /// Writes t of columns [from, to), none of them decided, to scratch->ahead.
  void look_ahead(size_t unit, size_t from, size_t to, Scratch* scratch) {
    scratch->ahead.resize((to - from) * kUnitRows);
    advance(unit, from, to, scratch, [&](size_t i, const double* t, double* e) {
      std::copy_n(t, kUnitRows, &scratch->ahead[(i - from) * kUnitRows]);
      for (size_t lane = 0; lane < kUnitRows; ++lane) e[lane] = weight(unit, i, lane) - t[lane];
    });
  }

  size_t next_of(size_t from, size_t width) const { return std::min(depth_, from + width); }

 private:
  double weight(size_t unit, size_t i, size_t lane) const {
    return weights_[(unit * kUnitTiles + lane / kTile) * step_ + i * kTile + lane % kTile];
  }

  /// Calls each(i, t_i, e_i) for the columns [from, to), t and e [kUnitRows]; it writes e.
  template <typename Each>
  void advance(size_t unit, size_t from, size_t to, Scratch* scratch, const Each& each) {
    const size_t first_row = unit * kUnitTiles * step_;
    for (size_t tile = from / kTile; tile * kTile < to; ++tile) {
      const bool known = scratch->unit == unit && scratch->tile == tile && tile == from / kTile;
      if (!known) {
        for (size_t lane = 0; lane < kUnitRows; ++lane) {
          for (size_t i = 0; i < kTile; ++i) {
            scratch->base[i * kUnitRows + lane] = weight(unit, tile * kTile + i, lane);
          }
        }
        update_({scratch->base, kUnitRows, factor_.tile(tile), &errors_[first_row], step_,
                 kUnitTiles, tile * kTile});
        // What is behind the first tile may hang on errors that are not final.
        const bool final = tile == from / kTile;
        scratch->unit = final ? unit : SIZE_MAX;
        scratch->tile = tile;
      }
      double t[kTile * kUnitRows];
      std::copy_n(scratch->base, kTile * kUnitRows, t);
      const double* inner = factor_.tile(tile) + tile * kTile * kTile;
      for (size_t i = 0; i < kTile && tile * kTile + i < to; ++i) {
        const size_t column = tile * kTile + i;
        double e[kUnitRows];
        for (size_t lane = 0; lane < kUnitRows; ++lane) {
          e[lane] = errors_[first_row + lane / kTile * step_ + column * kTile + lane % kTile];
        }
        if (column >= from) {
          each(column, t + i * kUnitRows, e);
          for (size_t lane = 0; lane < kUnitRows; ++lane) {
            errors_[first_row + lane / kTile * step_ + column * kTile + lane % kTile] = e[lane];
          }
        }
        for (size_t below = i + 1; below < kTile; ++below) {
          const double factor = inner[i * kTile + below];
          double* sum = t + below * kUnitRows;
          for (size_t lane = 0; lane < kUnitRows; ++lane) sum[lane] += factor * e[lane];
        }
      }
    }
  }

  void decide_column(size_t unit, size_t i, const double* t, double* e) {
    const size_t natural = factor_.order()[i];
    const double pivot = factor_.pivot(i);
    const size_t rows = std::min(kUnitRows, columns_.rows - unit * kUnitRows);
    for (size_t lane = 0; lane < kUnitRows; ++lane) {
      e[lane] = 0.0;
      if (lane >= rows) continue;
      const size_t row = unit * kUnitRows + lane;
      const size_t at = row * depth_ + natural;
      double q = t[lane];
      double code = 0.0;
      if (columns_.kept != nullptr && columns_.kept[at] == 0) {
        q = 0.0;
      } else if (columns_.rounds) {
        const double scale = columns_.scales[row * groups_ + natural / columns_.group];
        code = encode(t[lane], scale);
        q = code * scale;
      }
      if (columns_.rounds) columns_.codes[at] = static_cast<int8_t>(code);
      columns_.result[at] = q;
      const double miss = pivot * (t[lane] - q);
      columns_.costs[row] += miss * miss;
      e[lane] = weight(unit, i, lane) - q;
    }
  }

  double encode(double t, double scale) const {
    return round_even(std::min(std::max(t / scale, columns_.low), columns_.high));
  }

  void choose_count(size_t unit, size_t from, size_t to, const double* ahead) {
    const size_t rows = std::min(kUnitRows, columns_.rows - unit * kUnitRows);
    for (size_t lane = 0; lane < rows; ++lane) {
      const size_t row = unit * kUnitRows + lane;
      choose_blocks(factor_, columns_.mask, {from, to, row, row + 1}, ahead + lane, kUnitRows,
                    columns_.mask.count, columns_.kept);
    }
  }

  void find_scales(size_t unit, size_t from, size_t to, const double* ahead) {
    const size_t rows = std::min(kUnitRows, columns_.rows - unit * kUnitRows);
    for (size_t lane = 0; lane < rows; ++lane) {
      const size_t row = unit * kUnitRows + lane;
      const auto is_kept = [&](size_t i) {
        return columns_.kept == nullptr || columns_.kept[row * depth_ + i] != 0;
      };
      double reach = 0.0;
      for (size_t i = from; i < to; ++i) {
        const double t = is_kept(i) ? ahead[(i - from) * kUnitRows + lane] : 0.0;
        reach = std::max(reach, std::max(t / columns_.high, t / columns_.low));
      }
      double best = HUGE_VAL;
      double chosen = 1.0;
      for (size_t part = 0; reach > 0 && part < columns_.part_count; ++part) {
        const auto scale = static_cast<double>(static_cast<float>(reach * columns_.parts[part]));
        if (!(scale > 0)) continue;
        double cost = 0.0;
        for (size_t i = from; i < to; ++i) {
          if (!is_kept(i)) continue;
          const double t = ahead[(i - from) * kUnitRows + lane];
          const double miss = factor_.pivot(i) * (t - encode(t, scale) * scale);
          cost += miss * miss;
        }
        if (cost < best) {
          best = cost;
          chosen = scale;
        }
      }
      columns_.scales[row * groups_ + from / columns_.group] = chosen;
    }
  }

  const Factor& factor_;
  const Columns& columns_;
  const Update update_;
  const size_t depth_;
  /// Elements of a tile of rows.
  const size_t step_;
  const size_t units_;
  const size_t groups_;
  /// w and e in the factor's order, tiles of rows [tile][column][8].
  std::vector<double> weights_;
  std::vector<double> errors_;
};

/// Decides windows of columns one after the other, since a domain of the mask has several rows.
void solve_by_window(const Factor& factor, const Columns& columns, Solver* solver, Crew* crew,
                     std::vector<Scratch>* scratch, const Progress& progress) {
  const size_t depth = factor.depth();
  const MaskRule& mask = columns.mask;
  const size_t row_step = solver->units() * kUnitRows;
  std::vector<double> ahead(row_step * std::min(mask.window, depth));
  BlockBudget budget(mask.density);
  for (size_t from = 0; from < depth; from += mask.window) {
    if (progress) progress(from, depth);
    const size_t to = solver->next_of(from, mask.window);
    crew->run(solver->units(), [&](size_t unit, size_t thread) {
      Scratch& mine = (*scratch)[thread];
      solver->look_ahead(unit, from, to, &mine);
      for (size_t i = 0; i < to - from; ++i) {
        std::copy_n(&mine.ahead[i * kUnitRows], kUnitRows, &ahead[i * row_step + unit * kUnitRows]);
      }
    });
    if (mask.kind == MaskRule::Kind::kCount) {
      const size_t blocks = (columns.rows + mask.rows - 1) / mask.rows;
      crew->run(blocks, [&](size_t block, size_t) {
        const size_t first = block * mask.rows;
        const BlockDomain domain = {from, to, first, std::min(columns.rows, first + mask.rows)};
        choose_blocks(factor, mask, domain, &ahead[first], row_step, mask.count, columns.kept);
      });
    } else {
      const BlockDomain domain = {from, to, 0, columns.rows};
      choose_blocks(factor, mask, domain, ahead.data(), row_step,
                    budget.take(count_blocks(mask, domain)), columns.kept);
    }
    crew->run(solver->units(), [&](size_t unit, size_t thread) {
      solver->decide(unit, from, to, &(*scratch)[thread]);
    });
  }
  if (progress) progress(depth, depth);
}

}  // namespace

void solve_columns(const Factor& factor, const Columns& columns, Isa isa, Crew& crew,
                   const Progress& progress) {
  Solver solver(factor, columns, select_update(isa));
  std::vector<Scratch> scratch(crew.size());
  if (columns.mask.kind == MaskRule::Kind::kDensity ||
      (columns.mask.kind == MaskRule::Kind::kCount && columns.mask.rows > 1)) {
    solve_by_window(factor, columns, &solver, &crew, &scratch, progress);
    return;
  }
  const size_t step = kStepUnits * crew.size();
  for (size_t first = 0; first < solver.units(); first += step) {
    if (progress) progress(first, solver.units());
    crew.run(std::min(step, solver.units() - first), [&](size_t unit, size_t thread) {
      solver.decide(first + unit, 0, factor.depth(), &scratch[thread]);
    });
  }
  if (progress) progress(solver.units(), solver.units());
}

}  // namespace edgekit::compress
