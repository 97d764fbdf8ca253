#include "ops/broadcast.h"

namespace edgekit {
namespace {

/// Returns the dimension of `shape` that stands under dimension i of a shape of rank `rank`.
int64_t aligned_dim(const Shape& shape, size_t rank, size_t i) {
  return i + shape.rank < rank ? 1 : shape.dims[i + shape.rank - rank];
}

}  // namespace

bool find_broadcast(const Shape& a, const Shape& b, const Shape& out, Broadcast* broadcast) {
  const size_t rank = out.rank;
  if (rank != (a.rank > b.rank ? a.rank : b.rank)) return false;
  size_t a_step = 1;
  size_t b_step = 1;
  Dimension reversed[kMaxRank] = {};
  size_t count = 0;
  for (size_t i = rank; i-- > 0;) {
    const int64_t a_dim = aligned_dim(a, rank, i);
    const int64_t b_dim = aligned_dim(b, rank, i);
    const int64_t dim = a_dim == 1 ? b_dim : a_dim;
    if ((b_dim != 1 && b_dim != dim) || out.dims[i] != dim) return false;
    if (dim == 1) continue;
    const Dimension d = {static_cast<size_t>(dim), a_dim == 1 ? 0 : a_step,
                         b_dim == 1 ? 0 : b_step};
    a_step *= static_cast<size_t>(a_dim);
    b_step *= static_cast<size_t>(b_dim);
    if (count != 0) {
      Dimension& inner = reversed[count - 1];
      if (d.a_step == inner.a_step * inner.size && d.b_step == inner.b_step * inner.size) {
        inner.size *= d.size;
        continue;
      }
    }
    reversed[count++] = d;
  }
  if (count == 0) reversed[count++] = {1, 1, 1};
  broadcast->rank = count;
  for (size_t i = 0; i < count; ++i) broadcast->dims[i] = reversed[count - 1 - i];
  return true;
}

}  // namespace edgekit
