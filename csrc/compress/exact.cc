#include "compress/exact.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <vector>

#include "compress/round_even.h"

namespace edgekit::compress {
namespace {

// Groups that are done between two calls of progress, for each thread.
constexpr size_t kStep = 64;
// What |w - q| exceeds, in steps, where w is out of the codes' reach.
constexpr double kOutOfReach = 0.5 + 1e-9;

/// Replaces H + d I by its inverse. Returns false where it is not positive definite.
bool invert(std::vector<double>* matrix, size_t depth, double damping) {
  std::vector<double>& m = *matrix;
  double mean = 0.0;
  for (size_t i = 0; i < depth; ++i) mean += m[i * depth + i];
  mean /= static_cast<double>(depth);
  const double damp = mean > 0 ? mean * damping : 1.0;
  for (size_t i = 0; i < depth; ++i) m[i * depth + i] += damp;
  std::vector<double> column(depth), row(depth);
  for (size_t p = 0; p < depth; ++p) {
    const double pivot = m[p * depth + p];
    if (!(pivot > 0) || !std::isfinite(pivot)) return false;
    for (size_t j = 0; j < depth; ++j) {
      column[j] = m[j * depth + p];
      row[j] = m[p * depth + j] / pivot;
    }
    for (size_t i = 0; i < depth; ++i) {
      for (size_t j = 0; j < depth; ++j) m[i * depth + j] -= column[i] * row[j];
    }
    for (size_t j = 0; j < depth; ++j) {
      m[p * depth + j] = row[j];
      m[j * depth + p] = column[j] / pivot;
    }
    m[p * depth + p] = -1.0 / pivot;
  }
  for (double& value : m) value = -value;
  return true;
}

/// One row while it is decided.
class Row {
 public:
  Row(const ExactRows& problem, size_t row)
      : problem_(problem), row_(row), depth_(problem.depth), m_(depth_ * depth_) {}

  void solve(const std::vector<double>& inverse) {
    m_ = inverse;
    w_.assign(problem_.weights + row_ * depth_, problem_.weights + (row_ + 1) * depth_);
    open_.assign(depth_, 1);
    step_.resize(depth_);
    cost_ = 0.0;
    const uint8_t* kept = problem_.kept == nullptr ? nullptr : problem_.kept + row_ * depth_;
    size_t removed = problem_.removed;
    if (kept != nullptr) removed = static_cast<size_t>(std::count(kept, kept + depth_, 0));
    for (size_t count = 0; count < std::min(removed, depth_); ++count) {
      const size_t c = cheapest([&](size_t j) {
        return kept != nullptr && kept[j] != 0 ? HUGE_VAL : w_[j] * w_[j] / m_[j * depth_ + j];
      });
      close(c, 0.0, 0.0);
    }
    while (problem_.rounds && std::count(open_.begin(), open_.end(), 1) > 0) round_next();
    for (size_t j = 0; j < depth_; ++j) {
      if (open_[j] != 0) problem_.result[row_ * depth_ + j] = w_[j];
    }
    problem_.costs[row_] = cost_;
  }

 private:
  template <typename Cost>
  size_t cheapest(const Cost& cost) const {
    size_t best = depth_;
    double least = HUGE_VAL;
    for (size_t j = 0; j < depth_; ++j) {
      if (open_[j] == 0) continue;
      const double here = cost(j);
      if (best == depth_ || here < least) {
        best = j;
        least = here;
      }
    }
    return best;
  }

  double encode(double w) const {
    const double code = w / problem_.scales[row_];
    return round_even(std::min(std::max(code, problem_.low), problem_.high));
  }

  void round_next() {
    const double scale = problem_.scales[row_];
    const auto miss = [&](size_t j) { return w_[j] - encode(w_[j]) * scale; };
    size_t c = cheapest([&](size_t j) { return -std::fabs(miss(j)); });
    if (!(std::fabs(miss(c)) > scale * kOutOfReach)) {
      c = cheapest([&](size_t j) { return miss(j) * miss(j) / m_[j * depth_ + j]; });
    }
    const double code = encode(w_[c]);
    close(c, code * scale, code);
  }

  void close(size_t c, double q, double code) {
    const double pivot = m_[c * depth_ + c];
    const double miss = w_[c] - q;
    cost_ += miss * miss / pivot;
    problem_.result[row_ * depth_ + c] = q;
    if (problem_.rounds) problem_.codes[row_ * depth_ + c] = static_cast<int8_t>(code);
    open_[c] = 0;
    for (size_t j = 0; j < depth_; ++j) step_[j] = m_[c * depth_ + j] / pivot;
    for (size_t i = 0; i < depth_; ++i) {
      if (open_[i] == 0) continue;
      const double factor = m_[i * depth_ + c];
      double* to = &m_[i * depth_];
      for (size_t j = 0; j < depth_; ++j) to[j] -= factor * step_[j];
      w_[i] -= miss * step_[i];
    }
  }

  const ExactRows& problem_;
  const size_t row_;
  const size_t depth_;
  std::vector<double> m_;
  std::vector<double> w_;
  std::vector<double> step_;
  std::vector<uint8_t> open_;
  double cost_ = 0.0;
};

}  // namespace

ptrdiff_t solve_exactly(const ExactRows& problem, Crew& crew, const Progress& progress) {
  const size_t size = problem.depth * problem.depth;
  std::vector<std::vector<double>> inverses(crew.size() * kStep);
  std::atomic<ptrdiff_t> failed{-1};
  for (size_t first = 0; first < problem.groups; first += inverses.size()) {
    if (progress) progress(first, problem.groups);
    const size_t count = std::min(inverses.size(), problem.groups - first);
    crew.run(count, [&](size_t unit, size_t) {
      const double* h = problem.h + (first + unit) * size;
      inverses[unit].assign(h, h + size);
      if (!invert(&inverses[unit], problem.depth, problem.damping)) {
        failed = static_cast<ptrdiff_t>(first + unit);
      }
    });
    if (failed >= 0) return failed;
    crew.run(count * problem.rows, [&](size_t unit, size_t) {
      Row row(problem, first * problem.rows + unit);
      row.solve(inverses[unit / problem.rows]);
    });
  }
  if (progress) progress(problem.groups, problem.groups);
  return -1;
}

}  // namespace edgekit::compress
