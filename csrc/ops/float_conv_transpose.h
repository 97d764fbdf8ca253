#pragma once

#include <memory>
#include <string>

#include "ops/float_layer.h"
#include "ops/op.h"
#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

/// Transposed convolution in float32, dense or grouped: ConvTransposeParams says which outputs an
/// input reaches, docs/arithmetic.md's "Layers in float32" in which order they are added. input [n,
/// h, w, c] and output [n, oh, ow, oc] must not overlap. Of the window's pads only those above and
/// to the left matter: the output's shape says the rest.
struct FloatConvTransposeParams {
  TensorView input;
  TensorView output;
  /// A row of kernels/float_gemm/kernels.inc.
  const char* kernel = "";
  /// pack_float_gemm() of each group of each phase, rows of phases first, each phase at a multiple
  /// of 64 bytes: `[oc / groups][taps][c / groups]` with the phase's taps in ascending (r, s); a
  /// phase without taps has one of zeros. Where joins_columns(), in one group, a row of phases is
  /// one, `[kernel_w * oc][taps][c]`.
  Blob weights;
  /// float32 [phases][oc], each phase's the same.
  Blob bias;
  uint32_t groups = 1;
  Window window;
  float lo = 0;
  float hi = 0;
};

std::unique_ptr<Op> make_float_conv_transpose(const FloatConvTransposeParams& params,
                                              const PlanTarget& target, std::string* error);

}  // namespace edgekit
