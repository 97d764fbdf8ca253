#pragma once

#include <cstddef>

#include "isa/isa.h"

namespace edgekit {

/// The arguments of one call of a float32 depthwise kernel: `out_rows` rows of `out_width` pixels
/// of one image, NHWC.
///
///   acc = bias[c]
///   acc = fma(x(h, v, c), w[c, r, s], acc)        r ascending, and s ascending within it
///         h = i * stride_h + r * dilation_h
///         v = j * stride_w + s * dilation_w - pad_left
///   y[i, j, c] = clamp(acc + residual[i, j, c])   as FloatGemmArgs
///
/// Layout. `rows[h]` is the input row that stands h rows below the first one needed, channels side
/// by side and `in_width * channels` floats long; there are
/// `(out_rows - 1) * stride_h + (kernel_h - 1) * dilation_h + 1` of them, and a row of padding
/// points to zeros. A column outside [0, in_width) is read from `zero`, which holds `channels`
/// zeros; padding takes part like other elements. w is packed by pack_float_depthwise(). Output
/// pixel (i, j) starts at `y + i * y_stride` bytes and `j * channels` floats, the residual's
/// likewise.
///
/// Promised by the caller: bias is readable up to the next multiple of cr; y overlaps neither the
/// input nor the residual. Promised by the kernel: nothing is read behind a row, and nothing is
/// written outside of y's pixels. Nothing needs an alignment beyond that of floats; w is read
/// fastest at a multiple of 64.
struct FloatDepthwiseArgs {
  size_t channels;
  size_t in_width;
  size_t out_width;
  size_t out_rows;
  size_t kernel_h;
  size_t kernel_w;
  size_t stride_h;
  size_t stride_w;
  size_t dilation_h;
  size_t dilation_w;
  size_t pad_left;
  const float* const* rows;
  const float* zero;
  const float* w;
  const float* bias;
  float lo;
  float hi;
  /// Null where nothing is added.
  const float* residual;
  size_t residual_stride;
  float* y;
  size_t y_stride;
};

/// A row of kernels.inc.
struct FloatDepthwiseKernel {
  const char* name;
  Isa isa;
  /// Channels that one block of w holds.
  size_t cr;
  /// Null when the kernel was not built into this binary.
  void (*run)(const FloatDepthwiseArgs& args);
};

/// Returns every kernel that is declared, built or not.
const FloatDepthwiseKernel* float_depthwise_kernels(size_t* count);

/// Returns the kernel of that name, or null.
const FloatDepthwiseKernel* find_float_depthwise_kernel(const char* name);

/// Returns the kernel for plans of `isa`: a pure function, the same on every machine.
const FloatDepthwiseKernel& select_float_depthwise(Isa isa);

/// Returns the floats of packed weights: `[ceil(channels/cr)][kernel_h][kernel_w][cr]`.
size_t packed_float_depthwise_size(const FloatDepthwiseKernel& kernel, size_t channels,
                                   size_t kernel_h, size_t kernel_w);

/// Packs w `[channels][kernel_h][kernel_w]` (row-major), missing channels as zeros.
void pack_float_depthwise(const FloatDepthwiseKernel& kernel, const float* w, size_t channels,
                          size_t kernel_h, size_t kernel_w, float* packed);

}  // namespace edgekit
