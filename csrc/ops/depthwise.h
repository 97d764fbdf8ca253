#pragma once

#include <memory>
#include <string>

#include "ops/fused_table.h"
#include "ops/op.h"
#include "ops/residual.h"
#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

/// Convolution of each channel by itself; the equation stands at DepthwiseArgs. input [n, h, w, c]
/// and output [n, oh, ow, c] hold codes and must not overlap.
struct DepthwiseParams {
  TensorView input;
  TensorView output;
  /// A row of kernels/depthwise/kernels.inc.
  const char* kernel = "";
  /// pack_depthwise() of `[c][kernel_h][kernel_w]`.
  Blob weights;
  /// Or 4: each two of the packed weights, which are in [-8, 7], share a byte, the first in its
  /// lower half. They are unpacked when the op is made.
  uint32_t weight_bits = 8;
  /// int32 [c], with the zero point's share: see DepthwiseArgs.
  Blob bias;
  /// float32 [c].
  Blob multiplier;
  Window window;
  int32_t lo = -128;
  int32_t hi = 127;
  Residual residual;
  FusedTable table;
};

std::unique_ptr<Op> make_depthwise(const DepthwiseParams& params, const PlanTarget& target,
                                   std::string* error);

}  // namespace edgekit
