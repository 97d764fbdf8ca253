#pragma once

#include <memory>
#include <string>

#include "ops/op.h"
#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

/// A layer of int8 weights on int16 codes around 0 (16x8), between float32 tensors whose values are
/// codes or become them: docs/arithmetic.md, "16x8".
///
///   q = clamp(rne(x / input_step), -32767, 32767)      one float32 division; NaN becomes -32767
///   acc[o] = bias[o] + sum over the window q * w[o]    exact
///   y = float32(clamp(rne(float64(acc[o]) * multiplier[o]), lo, hi)) * output_step
struct WideLayerParams {
  /// float32 [n, h, w, c]; of any rank where the window is one element.
  TensorView input;
  /// float32 [n, oh, ow, o].
  TensorView output;
  /// A row of kernels/gemm/kernels.inc, unused by a depthwise layer.
  const char* kernel = "";
  /// pack_gemm() of `[o][1][kernel_h * kernel_w * c]`; of a depthwise layer int8
  /// `[kernel_h * kernel_w][c]`.
  Blob weights;
  /// int32 [o]: sum w[o], for whole tiles of the kernel; nothing of a depthwise layer.
  Blob sums;
  /// float64 [o], whole numbers.
  Blob bias;
  /// float64 [o].
  Blob multiplier;
  Window window;
  float input_step = 1;
  float output_step = 1;
  int32_t lo = -32767;
  int32_t hi = 32767;
};

std::unique_ptr<Op> make_wide_conv(const WideLayerParams& params, const PlanTarget& target,
                                   std::string* error);

std::unique_ptr<Op> make_wide_depthwise(const WideLayerParams& params, const PlanTarget& target,
                                        std::string* error);

}  // namespace edgekit
