#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ops/fused_table.h"
#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// A matrix product of int4 weights that have a scale for each group of them along k, with codes or
/// with float32 rows, each of which is brought to codes as it comes:
///
///   acc[g] = sum over k in g of (x[m, k] - z) * w[o, k]          exact
///   v      = float32(acc[0]) * multiplier[0, o]
///   v      = v + float32(acc[g]) * multiplier[g, o]              g = 1, 2, ...
///   codes:   y = clamp(zero_point + rne(v + bias[o]), lo, hi)
///   float32: y = v * s[m] + bias[o]                              x - z and s as
///   DynamicFullyConnected
///
/// every step after the sums a float32 operation of its own; k is the input's last dimension, m all
/// the others. The output must not overlap the input.
struct GroupFullyConnectedParams {
  /// Codes, or float32.
  TensorView input;
  /// As the input.
  TensorView output;
  /// A row of kernels/gemm/kernels.inc that takes 4 bits of each weight.
  const char* kernel = "";
  /// Weights of a group along k, at least 1; the last may be shorter.
  uint32_t group = 0;
  /// pack_gemm() of each group `[o][1][k in g]`, each at a multiple of 64 from the first.
  Blob weights;
  /// int32 [g][o, whole tiles]: -stored_zero_point(x) * sum over k in g of w[o, k].
  Blob correction;
  /// float32 [g][o, whole tiles]: for codes s_x * s_w[g, o] / s_y, else s_w[g, o].
  Blob multiplier;
  /// float32 [o]; for codes over s_y.
  Blob bias;
  /// Bounds of codes.
  int32_t lo = 0;
  int32_t hi = 0;
  /// Of codes.
  FusedTable table;
};

std::unique_ptr<Op> make_group_fully_connected(const GroupFullyConnectedParams& params,
                                               const PlanTarget& target, std::string* error);

}  // namespace edgekit
