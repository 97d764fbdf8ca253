#pragma once

#include <cstddef>
#include <string>

#include "ops/tensor.h"

namespace edgekit {

/// The sizes of a product of two computed tensors, a [batches..., m, k] and b [batches..., k, n] or
/// transposed [batches..., n, k].
struct Matrices {
  size_t batches = 0;
  size_t m = 0;
  size_t k = 0;
  size_t n = 0;
  /// Whether all batches take the same second matrix.
  bool shared = false;
};

/// Reads the sizes. Fails where the three don't fit together, one is no matrix, or the output
/// overlaps an input; their types are the caller's to check.
bool find_matrices(const TensorView& a, const TensorView& b, const TensorView& output,
                   bool transposed, Matrices* matrices, std::string* error);

}  // namespace edgekit
