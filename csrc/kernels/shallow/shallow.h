#pragma once

#include <cstddef>
#include <cstdint>

#include "isa/isa.h"
#include "kernels/requantize.h"

namespace edgekit {

/// The arguments of one call of a shallow convolution, which is one with few input channels, such
/// as a network's first: `out_rows` rows of `out_width` pixels of one image, NHWC.
///
///   acc[i, j, o] = bias[o] + sum_r sum_b rows[h][j * stride_w * channels + b] * w[o, r, b]
///              h = i * stride_h + r * dilation_h
///              0 <= b < kernel_w * channels
///
/// So a window's row, whose taps lie side by side, is one run of bytes; there is no dilation in
/// width, and no memory is gathered.
///
/// Layout. `rows[h]` is the input row that stands h rows below the first one needed, from the
/// leftmost column of the first pixel's window on: zero-point bytes where that is padding. There
/// are `(out_rows - 1) * stride_h + (kernel_h - 1) * dilation_h + 1` of them, each
/// `((out_width - 1) * stride_w + kernel_w) * channels` bytes long. w is packed by pack_shallow(),
/// from weights in [-127, 127]. Output pixel (i, j) starts at `y + i * y_stride + j * n`.
///
/// Promised by the caller: the limits of fits_shallow(); 64 bytes behind every row may be read;
/// bias and scale are readable up to the next multiple of nr; y overlaps neither the input nor the
/// residual and may be written more than once. Nothing needs an alignment; w is read fastest at a
/// multiple of 64.
struct ShallowArgs {
  /// Output channels.
  size_t n;
  /// Input channels.
  size_t channels;
  size_t out_width;
  size_t out_rows;
  size_t kernel_h;
  size_t kernel_w;
  size_t stride_h;
  size_t stride_w;
  size_t dilation_h;
  const uint8_t* const* rows;
  const int8_t* w;
  /// Includes the zero point's share: bias[o] - stored_zero_point(x) * sum w[o].
  const int32_t* bias;
  /// The residual, if any, lies as y does, its rows residual_stride bytes apart.
  Requantize requantize;
  uint8_t* y;
  size_t y_stride;
};

/// A row of kernels.inc.
struct ShallowKernel {
  const char* name;
  Isa isa;
  Storage storage;
  /// Output rows that one call handles best.
  uint16_t tile_rows;
  /// Output channels that one block of w holds.
  uint16_t nr;
  /// Bytes of a window's row that one multiply instruction takes; a row is padded to a multiple
  /// with zero weights.
  uint16_t kr;
  /// Null when the kernel was not built into this binary.
  void (*run)(const ShallowArgs& args);
};

/// Bytes of a window's row, and its rows, that kernels have to expect.
constexpr size_t kMaxShallowRow = 64;
constexpr size_t kMaxShallowHeight = 16;

/// Returns whether kernels take a window of this size.
bool fits_shallow(size_t channels, size_t kernel_h, size_t kernel_w);

/// Returns every kernel that is declared, built or not.
const ShallowKernel* shallow_kernels(size_t* count);

/// Returns the kernel of that name, or null.
const ShallowKernel* find_shallow_kernel(const char* name);

/// Returns the kernel for a dense convolution without dilation in width, or null where a matrix
/// kernel does better: a pure function of its arguments, the same on every machine.
const ShallowKernel* select_shallow(Isa isa, Storage storage, size_t n, size_t channels,
                                    size_t kernel_h, size_t kernel_w);

/// Returns the bytes of packed weights: `[ceil(n/nr)][kernel_h][ceil(kernel_w*channels/kr)][nr]
/// [kr]`.
size_t packed_shallow_size(const ShallowKernel& kernel, size_t n, size_t channels, size_t kernel_h,
                           size_t kernel_w);

/// Packs w `[n][kernel_h][kernel_w][channels]` (int8, row-major), what is missing as zeros.
void pack_shallow(const ShallowKernel& kernel, const int8_t* w, size_t n, size_t channels,
                  size_t kernel_h, size_t kernel_w, int8_t* packed);

}  // namespace edgekit
