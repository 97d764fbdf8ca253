#pragma once

#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// A matrix product of int8 weights with float32 rows, each of which is brought to int8 codes by
/// its own largest magnitude when it comes:
///
///   s[m]    = max_k |x[m, k]| / 127                          NaN where an element is NaN
///   q[m, k] = clamp(rne(x[m, k] / s[m]), -127, 127)          a quotient that is NaN gives -127
///   y[m, o] = (float32(sum_k q[m, k] * w[o, k]) * multiplier[o]) * s[m] + bias[o]
///
/// every step a float32 operation of its own, the sum exact; k is the input's last dimension, m all
/// the others. The output must not overlap the input.
struct DynamicFullyConnectedParams {
  /// float32.
  TensorView input;
  /// float32.
  TensorView output;
  /// A row of kernels/gemm/kernels.inc.
  const char* kernel = "";
  /// pack_gemm() of `[o][1][k]`.
  Blob weights;
  /// int32 [o]: -storage_offset() * sum_k w[o, k].
  Blob correction;
  /// float32 [o]: the scales of the weights.
  Blob multiplier;
  /// float32 [o].
  Blob bias;
  /// Whether all rows have one s, that of the largest magnitude of the whole input.
  bool whole = false;
};

std::unique_ptr<Op> make_dynamic_fully_connected(const DynamicFullyConnectedParams& params,
                                                 const PlanTarget& target, std::string* error);

}  // namespace edgekit
