#pragma once

#include <memory>
#include <string>

#include "ops/float_layer.h"
#include "ops/op.h"
#include "ops/tensor.h"
#include "ops/window.h"

namespace edgekit {

/// Convolution in float32, dense or grouped, as docs/arithmetic.md's "Layers in float32". input [n,
/// h, w, c] and output [n, oh, ow, oc] must not overlap.
struct FloatConvParams {
  TensorView input;
  TensorView output;
  /// A row of kernels/float_gemm/kernels.inc.
  const char* kernel = "";
  /// As FloatLayerParams, a tap for each place of the kernel.
  Blob weights;
  size_t weight_bits = 32;
  FloatEpilogue epilogue;
  uint32_t groups = 1;
  Window window;
};

std::unique_ptr<Op> make_float_conv(const FloatConvParams& params, const PlanTarget& target,
                                    std::string* error);

/// Convolution of each channel by itself in float32. input [n, h, w, c] and output [n, oh, ow, c]
/// must not overlap.
struct FloatDepthwiseParams {
  TensorView input;
  TensorView output;
  /// A row of kernels/float_depthwise/kernels.inc.
  const char* kernel = "";
  /// pack_float_depthwise() of `[c][kernel_h][kernel_w]`.
  Blob weights;
  size_t weight_bits = 32;
  FloatEpilogue epilogue;
  Window window;
};

std::unique_ptr<Op> make_float_depthwise(const FloatDepthwiseParams& params,
                                         const PlanTarget& target, std::string* error);

}  // namespace edgekit
