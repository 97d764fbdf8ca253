#pragma once

#include <memory>
#include <string>

#include "ops/float_layer.h"
#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// y[m, o] = clip(bias[o] + sum_k x[m, k] * w[o, k], lo, hi) in float32, in the order that
/// docs/arithmetic.md gives; k is the input's last dimension, m all the others. The output must not
/// overlap the input.
struct FloatFullyConnectedParams {
  TensorView input;
  TensorView output;
  /// A row of kernels/float_gemm/kernels.inc.
  const char* kernel = "";
  /// pack_float_gemm() of `[o][1][k]`.
  Blob weights;
  size_t weight_bits = 32;
  FloatEpilogue epilogue;
};

std::unique_ptr<Op> make_float_fully_connected(const FloatFullyConnectedParams& params,
                                               const PlanTarget& target, std::string* error);

/// The matrix product of two computed tensors, a [batches..., m, k] and b [batches..., k, n], or
/// with `transposed` [batches..., n, k]; both have the same batches, or b has none. Sums start with
/// 0. The output must not overlap an input.
struct FloatMatMulParams {
  TensorView a;
  TensorView b;
  TensorView output;
  /// A row of kernels/float_gemm/kernels.inc.
  const char* kernel = "";
  bool transposed = false;
};

std::unique_ptr<Op> make_float_matmul(const FloatMatMulParams& params, const PlanTarget& target,
                                      std::string* error);

}  // namespace edgekit
