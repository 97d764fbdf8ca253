#pragma once

#include <memory>
#include <string>

#include "ops/fused_table.h"
#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// The matrix product of two computed tensors of codes:
///
///   y[m, n] = requantize(sum_k (a[m, k] - z_a) * (b[k, n] - z_b)),   multiplier s_a * s_b / s_y
///
/// a is [batches..., m, k] and b [batches..., k, n], or with `transposed` [batches..., n, k]; both
/// have the same batches, or b has none. The output must not overlap an input.
///
/// b becomes weights when its batch is reached. Kernels take those in [-127, 127]: where a
/// `b - z_b` of the batch lies outside, which a grid around 0 allows for the code -128 alone, each
/// is the sum of two or three, and the batch takes as many times as long.
struct MatMulParams {
  TensorView a;
  TensorView b;
  TensorView output;
  /// A row of kernels/gemm/kernels.inc that is always exact.
  const char* kernel = "";
  bool transposed = false;
  int32_t lo = -128;
  int32_t hi = 127;
  FusedTable table;
};

std::unique_ptr<Op> make_matmul(const MatMulParams& params, const PlanTarget& target,
                                std::string* error);

}  // namespace edgekit
