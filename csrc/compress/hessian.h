#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "compress/crew.h"
#include "compress/patches.h"
#include "compress/update/update.h"

namespace edgekit::compress {

/// Accumulates H = X^T X of a layer's inputs for each of its groups, X [patches, depth].
///
/// Elements are whole numbers: codes, or floats in steps of a grid. Then every sum below 2^53 is
/// exact in float64, and H is the same in whatever order patches come, on any number of threads and
/// any instruction set.
class Hessian {
 public:
  /// Throws std::bad_alloc where memory does not hold it.
  Hessian(size_t groups, size_t depth, Isa isa, Crew& crew);

  /// Adds the patches at positions[0, count) of one image; see gather_tile().
  /// window.groups and window.depth() are this object's.
  template <typename T>
  void add(const Window& window, const T* image, const Grid& grid, const uint32_t* positions,
           size_t count);

  size_t groups() const { return groups_; }
  size_t depth() const { return depth_; }

  /// Writes H of `group`, [depth, depth], both triangles.
  void copy_to(size_t group, double* matrix) const;

 private:
  void update_row(size_t group, const double* panel, size_t tile);

  const size_t groups_;
  const size_t depth_;
  const size_t tiles_;
  const Update update_;
  Crew& crew_;
  /// Lower triangles of tiles, [groups][8 tiles][8 tiles].
  std::vector<double> sums_;
  /// [panels][tiles][kPatches][8], one for each thread where there are several groups.
  std::vector<double> panels_;
};

}  // namespace edgekit::compress
