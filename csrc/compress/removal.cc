#include "compress/removal.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

namespace edgekit::compress {
namespace {

// Columns that go before M loses their terms: until then they are added where M is looked at.
constexpr size_t kBatch = 64;

void move(const double* from, size_t count, double* to) {
  std::memmove(to, from, count * sizeof(double));
}

/// A panel while its blocks go.
///
/// Columns of blocks that are left lie next to each other; M is its lower half, in rows of
/// tiles_ * 8. It lacks the terms of `pending_` columns, u of which wait in tiles.
class Panel {
 public:
  Panel(size_t depth, size_t width, const double* inverse, Update update)
      : depth_(depth),
        width_(width),
        batch_(std::max(kBatch, width)),
        inverse_(inverse),
        update_(update) {}

  /// Writes blocks in the order in which they go, and their costs. Returns false where M is not
  /// positive definite.
  bool order(const Removal& removal, size_t panel) {
    const size_t first = panel * removal.panel;
    rows_.resize(std::min(removal.panel, removal.rows - first));
    std::iota(rows_.begin(), rows_.end(), first);
    start(removal.weights);
    open_rooms(removal);
    const size_t steps = removal.steps();
    int64_t* order = removal.order + panel * steps;
    double* costs = removal.costs + panel * steps;
    if (removal.alone) return order_alone(removal.group, order, costs);
    for (size_t step = 0; step < steps; ++step) {
      size_t best = SIZE_MAX;
      double least = HUGE_VAL;
      for (const size_t place : open_) {
        if (room_[blocks_[place] / removal.group] == 0) continue;
        const double cost = find_cost(place);
        if (!std::isfinite(cost)) return false;
        if (best == SIZE_MAX || cost < least) {
          best = place;
          least = cost;
        }
      }
      order[step] = static_cast<int64_t>(blocks_[best]);
      costs[step] = least;
      --room_[blocks_[best] / removal.group];
      remove(best);
    }
    return true;
  }

  /// Writes the weights of the rows of a support. Returns false where M is not positive definite.
  bool apply(const GivenZeros& zeros, size_t support) {
    rows_.clear();
    for (size_t row = 0; row < zeros.rows; ++row) {
      if (zeros.support_of[row] == static_cast<int64_t>(support)) rows_.push_back(row);
    }
    start(zeros.weights);
    const uint8_t* kept = zeros.kept + support * depth_;
    for (size_t column = 0; column < depth_; ++column) {
      if (kept[column] != 0) continue;
      const auto place = std::find_if(open_.begin(), open_.end(),
                                      [&](size_t at) { return blocks_[at] == column; });
      if (!(inner_[*place] > 0)) return false;
      remove(*place);
    }
    for (size_t r = 0; r < rows_.size(); ++r) {
      double* to = zeros.result + rows_[r] * depth_;
      std::fill_n(to, depth_, 0.0);
      for (const size_t place : open_) to[blocks_[place]] = w_[place * rows_.size() + r];
      zeros.costs[rows_[r]] = lost_[r];
    }
    return true;
  }

 private:
  void start(const double* weights) {
    const size_t blocks = (depth_ + width_ - 1) / width_;
    tiles_ = count_tiles(blocks * width_);
    pending_ = 0;
    const size_t step = tiles_ * kTile;
    m_.assign(step * step, 0.0);
    for (size_t i = 0; i < blocks * width_; ++i) {
      // Columns beyond the end are 0 and have nothing to do with others.
      if (i >= depth_) {
        m_[i * step + i] = 1.0;
      } else {
        std::copy_n(inverse_ + i * depth_, i + 1, &m_[i * step]);
      }
    }
    w_.assign(step * rows_.size(), 0.0);
    for (size_t r = 0; r < rows_.size(); ++r) {
      const double* from = weights + rows_[r] * depth_;
      for (size_t i = 0; i < depth_; ++i) w_[i * rows_.size() + r] = from[i];
    }
    blocks_.resize(blocks);
    std::iota(blocks_.begin(), blocks_.end(), size_t{0});
    open_ = blocks_;
    inner_.resize(blocks * width_ * width_);
    for (size_t b = 0; b < blocks; ++b) {
      for (size_t i = 0; i < width_; ++i) {
        const double* from = &m_[(b * width_ + i) * step + b * width_];
        std::copy_n(from, i + 1, &inner_[(b * width_ + i) * width_]);
      }
    }
    u_.assign(tiles_ * batch_ * kTile, 0.0);
    minus_ = u_;
    local_.resize(width_ * width_);
    own_.resize(width_ * rows_.size());
    sums_.resize(rows_.size());
    lost_.assign(rows_.size(), 0.0);
    columns_.resize(width_ * step);
  }

  void open_rooms(const Removal& removal) {
    room_.assign((blocks_.size() + removal.group - 1) / removal.group, 0);
    for (size_t g = 0; g < room_.size(); ++g) {
      const size_t size = std::min(removal.group, blocks_.size() - g * removal.group);
      room_[g] = size - std::min(size, removal.keep);
    }
  }

  /// Returns what a block costs now; not a number where M is not positive definite.
  double find_cost(size_t place) {
    const size_t rows = rows_.size();
    if (width_ == 1) {
      const double root = std::sqrt(inner_[place]);
      double sum = 0.0;
      for (size_t r = 0; r < rows; ++r) {
        const double z = w_[place * rows + r] / root;
        sum += z * z;
      }
      return root > 0 ? sum : NAN;
    }
    std::copy_n(&inner_[place * width_ * width_], width_ * width_, local_.begin());
    std::copy_n(&w_[place * width_ * rows], width_ * rows, own_.begin());
    std::fill(sums_.begin(), sums_.end(), 0.0);
    for (size_t c = 0; c < width_; ++c) {
      const double root = std::sqrt(local_[c * width_ + c]);
      if (!(root > 0)) return NAN;
      for (size_t i = c + 1; i < width_; ++i) local_[i * width_ + c] /= root;
      for (size_t i = c + 1; i < width_; ++i) {
        for (size_t j = c + 1; j <= i; ++j) {
          local_[i * width_ + j] -= local_[i * width_ + c] * local_[j * width_ + c];
        }
      }
      double* z = &own_[c * rows];
      for (size_t r = 0; r < rows; ++r) z[r] /= root;
      for (size_t r = 0; r < rows; ++r) sums_[r] += z[r] * z[r];
      for (size_t i = c + 1; i < width_; ++i) {
        const double factor = local_[i * width_ + c];
        double* to = &own_[i * rows];
        for (size_t r = 0; r < rows; ++r) to[r] -= z[r] * factor;
      }
    }
    return std::accumulate(sums_.begin(), sums_.end(), 0.0);
  }

  void remove(size_t place) {
    if (pending_ + width_ > batch_) place = flush(place);
    gather(place);
    const size_t begin = place * width_, rows = rows_.size();
    open_.erase(std::find(open_.begin(), open_.end(), place));
    for (size_t c = 0; c < width_; ++c) {
      const double* column = &columns_[c * tiles_ * kTile];
      const double root = std::sqrt(column[begin + c]);
      for (size_t tile = 0; tile < tiles_; ++tile) {
        double* u = &u_[(tile * batch_ + pending_) * kTile];
        double* minus = &minus_[(tile * batch_ + pending_) * kTile];
        for (size_t lane = 0; lane < kTile; ++lane) {
          u[lane] = column[tile * kTile + lane] / root;
          minus[lane] = -u[lane];
        }
      }
      for (size_t i = c + 1; i < width_; ++i) {
        double* to = &columns_[i * tiles_ * kTile];
        const double factor = u(pending_, begin + i);
        for (size_t tile = 0; tile < tiles_; ++tile) {
          const double* from = &u_[(tile * batch_ + pending_) * kTile];
          for (size_t lane = 0; lane < kTile; ++lane)
            to[tile * kTile + lane] -= from[lane] * factor;
        }
      }
      double* z = sums_.data();
      for (size_t r = 0; r < rows; ++r) z[r] = w_[(begin + c) * rows + r] / root;
      for (size_t r = 0; r < rows; ++r) lost_[r] += z[r] * z[r];
      for (size_t i = c + 1; i < width_; ++i) pull(begin + i, z);
      for (const size_t block : open_) {
        double* inner = &inner_[block * width_ * width_];
        for (size_t i = 0; i < width_; ++i) {
          pull(block * width_ + i, z);
          const double factor = u(pending_, block * width_ + i);
          for (size_t j = 0; j <= i; ++j) {
            inner[i * width_ + j] -= factor * u(pending_, block * width_ + j);
          }
        }
      }
      ++pending_;
    }
  }

  /// Takes from a column of the weights what the one that goes, with z, is made up for by it.
  void pull(size_t column, const double* z) {
    const double factor = u(pending_, column);
    double* to = &w_[column * rows_.size()];
    for (size_t r = 0; r < rows_.size(); ++r) to[r] -= z[r] * factor;
  }

  double u(size_t p, size_t i) const { return u_[(i / kTile * batch_ + p) * kTile + i % kTile]; }

  /// Writes M's columns of a block to columns_, with the terms that M lacks.
  void gather(size_t place) {
    const size_t step = tiles_ * kTile, begin = place * width_;
    for (size_t c = 0; c < width_; ++c) {
      double* to = &columns_[c * step];
      std::copy_n(&m_[(begin + c) * step], begin + c, to);
      for (size_t i = begin + c; i < step; ++i) to[i] = m_[i * step + begin + c];
      for (size_t tile = 0; tile < tiles_; ++tile) {
        double* sum = to + tile * kTile;
        for (size_t p = 0; p < pending_; ++p) {
          const double factor = u(p, begin + c);
          const double* from = &u_[(tile * batch_ + p) * kTile];
          for (size_t lane = 0; lane < kTile; ++lane) sum[lane] -= from[lane] * factor;
        }
      }
    }
  }

  /// Adds what M lacks, and leaves out what went. Returns where the block at `place` is now.
  size_t flush(size_t place) {
    for (size_t tile = 0; tile < tiles_; ++tile) {
      UpdateArgs args;
      args.c = &m_[tile * kTile * tiles_ * kTile];
      args.c_step = tiles_ * kTile;
      args.x = &minus_[tile * batch_ * kTile];
      args.y = u_.data();
      args.y_step = batch_ * kTile;
      args.tiles = tile + 1;
      args.depth = pending_;
      update_(args);
    }
    pending_ = 0;
    const size_t before = tiles_ * kTile, count = open_.size() * width_, rows = rows_.size();
    const auto now = std::find(open_.begin(), open_.end(), place) - open_.begin();
    tiles_ = count_tiles(count);
    const size_t step = tiles_ * kTile;
    for (size_t i = 0; i < open_.size(); ++i) {
      for (size_t c = 0; c < width_; ++c) {
        const double* from = &m_[(open_[i] * width_ + c) * before];
        double* to = &m_[(i * width_ + c) * step];
        for (size_t j = 0; j <= i; ++j) {
          move(from + open_[j] * width_, width_, to + j * width_);
        }
      }
      move(&inner_[open_[i] * width_ * width_], width_ * width_, &inner_[i * width_ * width_]);
      move(&w_[open_[i] * width_ * rows], width_ * rows, &w_[i * width_ * rows]);
      blocks_[i] = blocks_[open_[i]];
    }
    std::iota(open_.begin(), open_.end(), size_t{0});
    std::fill(&m_[count * step], m_.data() + step * step, 0.0);
    std::fill(u_.begin(), u_.end(), 0.0);
    std::fill(minus_.begin(), minus_.end(), 0.0);
    return static_cast<size_t>(now);
  }

  bool order_alone(size_t group, int64_t* order, double* costs) {
    std::vector<double> found(blocks_.size());
    for (const size_t block : blocks_) {
      found[block] = find_cost(block);
      if (!std::isfinite(found[block])) return false;
    }
    std::sort(open_.begin(), open_.end(), [&](size_t a, size_t b) {
      return found[a] != found[b] ? found[a] < found[b] : a < b;
    });
    for (const size_t block : open_) {
      size_t& room = room_[block / group];
      if (room == 0) continue;
      --room;
      *order++ = static_cast<int64_t>(block);
      *costs++ = found[block];
    }
    return true;
  }

  const size_t depth_;
  const size_t width_;
  const size_t batch_;
  const double* const inverse_;
  const Update update_;
  /// Rows of the weights that are decided together.
  std::vector<size_t> rows_;
  size_t tiles_ = 0;
  size_t pending_ = 0;
  std::vector<double> m_;
  /// [column][row].
  std::vector<double> w_;
  /// M_BB of each block, [block][width_][width_], lower halves.
  std::vector<double> inner_;
  /// u of the columns that M lacks, [tile][batch_][8], and -u.
  std::vector<double> u_;
  std::vector<double> minus_;
  /// By place: the block there; and the places that are left.
  std::vector<size_t> blocks_;
  std::vector<size_t> open_;
  std::vector<size_t> room_;
  /// What rows lost by now.
  std::vector<double> lost_;
  std::vector<double> local_, own_, sums_, columns_;
};

/// Returns whether `solve` did all panels, each by a thread's own copy of `start`.
template <typename Solve>
bool solve_panels(size_t count, const Panel& start, Crew& crew, const Progress& progress,
                  const Solve& solve) {
  std::vector<Panel> panels(crew.size(), start);
  std::atomic<bool> failed{false};
  for (size_t first = 0; first < count && !failed; first += crew.size()) {
    if (progress) progress(first, count);
    crew.run(std::min(crew.size(), count - first), [&](size_t unit, size_t thread) {
      if (!solve(&panels[thread], first + unit)) failed = true;
    });
  }
  if (progress) progress(count, count);
  return !failed;
}

}  // namespace

size_t Removal::steps() const {
  const size_t whole = blocks() / group, rest = blocks() % group;
  return whole * (group - std::min(group, keep)) + rest - std::min(rest, keep);
}

bool order_removal(const Removal& removal, Isa isa, Crew& crew, const Progress& progress) {
  const Panel start(removal.depth, removal.width, removal.inverse, select_update(isa));
  return solve_panels(removal.panels(), start, crew, progress,
                      [&](Panel* panel, size_t unit) { return panel->order(removal, unit); });
}

bool apply_zeros(const GivenZeros& zeros, Isa isa, Crew& crew, const Progress& progress) {
  const Panel start(zeros.depth, 1, zeros.inverse, select_update(isa));
  return solve_panels(zeros.supports, start, crew, progress,
                      [&](Panel* panel, size_t unit) { return panel->apply(zeros, unit); });
}

}  // namespace edgekit::compress
