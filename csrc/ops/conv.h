#pragma once

#include <memory>
#include <string>

#include "ops/fused_epilogue.h"
#include "ops/fused_table.h"
#include "ops/op.h"
#include "ops/residual.h"
#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

/// Convolution, dense or grouped:
///
///   acc[n, i, j, o] = bias[o] + sum_r sum_s sum_c x(n, i*stride_h + r*dilation_h - pad_top,
///                                                 j*stride_w + s*dilation_w - pad_left, g*k + c) *
///                                                 w[o, r, s, c]
///
/// with k input channels a group and o in group g; then Requantize. input [n, h, w, c] holds codes,
/// output [n, oh, ow, oc] codes, int32 (the accumulator) or float32 (acc * multiplier). They must
/// not overlap, and may have gaps between pixels, unless the kernel is a shallow one.
struct ConvParams {
  TensorView input;
  TensorView output;
  /// A row of kernels/gemm/kernels.inc; of kernels/sparse_gemm/kernels.inc for one group; or of
  /// kernels/shallow/kernels.inc for one group, codes out and no dilation in width.
  const char* kernel = "";
  /// pack_gemm() of each group `[oc/groups][taps][k]`, each starting at a multiple of 64; or
  /// pack_sparse_gemm() or pack_shallow().
  Blob weights;
  /// Of a kernel of kernels/shallow/kernels.inc; may be 4, as DepthwiseParams says.
  uint32_t weight_bits = 8;
  /// int32 [oc], with the zero point's share: see GemmArgs.
  Blob bias;
  /// float32 [oc].
  Blob multiplier;
  uint32_t groups = 1;
  Window window;
  /// k runs over a whole gathered patch (kernel_h * kernel_w * channels, one tap).
  bool patches = false;
  int32_t lo = -128;
  int32_t hi = 127;
  Residual residual;
  FusedTable table;
  FusedEpilogue fused;
};

std::unique_ptr<Op> make_conv(const ConvParams& params, const PlanTarget& target,
                              std::string* error);

}  // namespace edgekit
