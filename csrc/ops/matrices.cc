#include "ops/matrices.h"

#include "ops/check.h"

namespace edgekit {

bool find_matrices(const TensorView& a, const TensorView& b, const TensorView& output,
                   bool transposed, Matrices* matrices, std::string* error) {
  for (const TensorView* tensor : {&a, &b, &output}) {
    if (tensor->shape.rank < 2) return fail(error, {"tensor ", describe(*tensor), " is no matrix"});
  }
  const Shape& x = a.shape;
  const Shape& w = b.shape;
  const Shape& y = output.shape;
  const int64_t m = x.dims[x.rank - 2];
  const int64_t k = x.dims[x.rank - 1];
  const int64_t n = w.dims[w.rank - (transposed ? 2 : 1)];
  const size_t batches = element_count(x, 0, x.rank - 2);
  const size_t b_batches = element_count(w, 0, w.rank - 2);
  if (w.dims[w.rank - (transposed ? 1 : 2)] != k || y.dims[y.rank - 2] != m ||
      y.dims[y.rank - 1] != n || element_count(y, 0, y.rank - 2) != batches ||
      (b_batches != 1 && b_batches != batches)) {
    return fail(error, {"the matrices ", describe(a), " and ", describe(b), " don't multiply to ",
                        describe(output)});
  }
  *matrices = {batches, static_cast<size_t>(m), static_cast<size_t>(k), static_cast<size_t>(n),
               b_batches == 1};
  return check_disjoint(a, output, error) && check_disjoint(b, output, error);
}

}  // namespace edgekit
