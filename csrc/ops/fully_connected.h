#pragma once

#include <memory>
#include <string>

#include "ops/fused_epilogue.h"
#include "ops/fused_table.h"
#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// y[m, o] = requantize(bias[o] + sum_k x[m, k] * w[o, k]); k is the input's last dimension, m all
/// the others. The output holds codes, int32 or float32 as in ConvParams and must not overlap the
/// input.
struct FullyConnectedParams {
  TensorView input;
  TensorView output;
  /// A row of kernels/gemm/kernels.inc or kernels/sparse_gemm/kernels.inc.
  const char* kernel = "";
  /// pack_gemm() or pack_sparse_gemm() of `[o][1][k]`.
  Blob weights;
  /// int32 [o], with the zero point's share: see GemmArgs.
  Blob bias;
  /// float32 [o].
  Blob multiplier;
  int32_t lo = -128;
  int32_t hi = 127;
  FusedTable table;
  FusedEpilogue fused;
};

std::unique_ptr<Op> make_fully_connected(const FullyConnectedParams& params,
                                         const PlanTarget& target, std::string* error);

}  // namespace edgekit
