#pragma once

#include <cstddef>
#include <cstdint>

#include "isa/isa.h"
#include "kernels/requantize.h"

namespace edgekit {

/// The arguments of one call of a depthwise kernel: `out_rows` rows of `out_width` pixels of one
/// image, NHWC.
///
///   acc[i, j, c] = bias[c] + sum_r sum_s x(h, v, c) * w[c, r, s]
///              h = i * stride_h + r * dilation_h
///              v = j * stride_w + s * dilation_w - pad_left
///
/// Layout. `rows[h]` is the input row that stands h rows below the first one needed, channels side
/// by side and `in_width * channels` bytes long; there are
/// `(out_rows - 1) * stride_h + (kernel_h - 1) * dilation_h + 1` of them, and a row of padding
/// points to zero-point bytes. A column outside [0, in_width) is read from `zero`, which holds
/// `channels` zero-point bytes. w is packed by pack_depthwise(), from weights in [-127, 127].
/// Output pixel (i, j) starts at `y + i * y_stride + j * channels`.
///
/// Promised by the caller: 64 bytes behind every row and behind `zero` may be read; bias and scale
/// are readable up to the next multiple of cr; y overlaps neither the input nor the residual and
/// may be written more than once. Nothing needs an alignment; w is read fastest at a multiple
/// of 64.
struct DepthwiseArgs {
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
  const uint8_t* const* rows;
  const uint8_t* zero;
  const int8_t* w;
  /// Includes the zero point's share: bias[c] - stored_zero_point(x) * sum w[c].
  const int32_t* bias;
  /// The residual, if any, lies as y does, its rows residual_stride bytes apart.
  Requantize requantize;
  uint8_t* y;
  size_t y_stride;
};

/// A row of kernels.inc.
struct DepthwiseKernel {
  const char* name;
  Isa isa;
  Storage storage;
  /// Output rows that one call handles best.
  uint16_t tile_rows;
  /// Channels that one block of w holds.
  uint16_t cr;
  /// Vertical taps that one multiply instruction takes; a column of kernel_h taps is padded with
  /// zero weights.
  uint16_t kr;
  /// Null when the kernel was not built into this binary.
  void (*run)(const DepthwiseArgs& args);
};

/// Returns every kernel that is declared, built or not.
const DepthwiseKernel* depthwise_kernels(size_t* count);

/// Returns the kernel of that name, or null.
const DepthwiseKernel* find_depthwise_kernel(const char* name);

/// Returns the kernel for a problem: a pure function of its arguments, the same on every machine.
const DepthwiseKernel& select_depthwise(Isa isa, Storage storage, size_t channels, size_t kernel_h,
                                        size_t kernel_w, size_t stride_w, size_t dilation_w);

/// Returns the bytes of packed weights: `[ceil(channels/cr)][kernel_w][ceil(kernel_h/kr)][cr][kr]`.
size_t packed_depthwise_size(const DepthwiseKernel& kernel, size_t channels, size_t kernel_h,
                             size_t kernel_w);

/// Packs w `[channels][kernel_h][kernel_w]` (int8, row-major), missing channels and taps as zeros.
/// A block of more than 16 channels has them in the order that interleaving within 128 bits leaves
/// them in: with L = cr / 16, position p holds channel `p / 4 % L * 16 + p / (4 * L) * 4 + p % 4`.
void pack_depthwise(const DepthwiseKernel& kernel, const int8_t* w, size_t channels,
                    size_t kernel_h, size_t kernel_w, int8_t* packed);

}  // namespace edgekit
