#pragma once

#include <memory>
#include <string>

#include "ops/fused_table.h"
#include "ops/op.h"
#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

/// Transposed convolution: each input pixel adds its share to the outputs that its window covers,
///
///   acc[n, y, x, o] = bias[o] + sum_r sum_s sum_c input(n, i, j, c) * w[o, r, s, c]
///       over r, s, i, j with i * stride_h + r * dilation_h - pad_top = y, and x likewise;
///
/// then Requantize. Output rows y with the same (y + pad_top) mod stride_h are a phase: a plain
/// convolution of some of the taps; so are columns. input [n, h, w, c] holds codes, output
/// [n, oh, ow, oc] codes, int32 or float32 as in ConvParams; they must not overlap. Of the window's
/// pads only those above and to the left matter: the output's shape says the rest.
struct ConvTransposeParams {
  TensorView input;
  TensorView output;
  /// A row of kernels/gemm/kernels.inc.
  const char* kernel = "";
  /// pack_gemm() of each phase, rows of phases first, each at a multiple of 64: `[oc][taps][c]`
  /// with the phase's taps in ascending (r, s); a phase without taps has one of zeros. Where
  /// joins_columns() a row of phases is one, `[kernel_w * oc][taps][c]`.
  Blob weights;
  /// int32 [phases][oc], with the zero point's share over the phase's taps.
  Blob bias;
  /// float32 [phases][oc].
  Blob multiplier;
  Window window;
  int32_t lo = -128;
  int32_t hi = 127;
  FusedTable table;
};

std::unique_ptr<Op> make_conv_transpose(const ConvTransposeParams& params, const PlanTarget& target,
                                        std::string* error);

}  // namespace edgekit
