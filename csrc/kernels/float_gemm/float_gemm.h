#pragma once

#include <cstddef>

#include "isa/isa.h"

namespace edgekit {

/// The arguments of one call of a float32 GEMM kernel, which serves fully connected layers,
/// products of two activations, 1x1 convolutions and, through row pointers, every other
/// convolution:
///
///   acc = bias[c]
///   acc = fma(a[m, t, k], w[c, t, k], acc)      t ascending, and k ascending within it
///   y[m, c] = clamp(acc + residual[m, c])       lo and hi; without a residual clamp(acc)
///
/// fma rounds once, the sum with the residual rounds once more, and clamp(v) is lo where v < lo, hi
/// where v > hi and v itself elsewhere, so that NaN stays NaN. That fixes every bit of y but those
/// of a NaN: all kernels give the same bytes, however a call is cut into rows or columns.
///
/// Layout. With `rows == nullptr` there is one tap and row m of a starts at `a + m * a_stride`
/// bytes; otherwise row m of tap t starts at `rows[m * taps + t]` (padding is a pointer to zeros,
/// which take part like other elements). k floats lie side by side. w is packed by
/// pack_float_gemm() for the same kernel. y's row m starts at `y + m * y_stride` bytes, the
/// residual's likewise.
///
/// Promised by the caller: bias is readable up to the next multiple of the kernel's panel, and so
/// is w, by its packing; y overlaps neither a nor the residual. Promised by the kernel: nothing is
/// read behind a row of a or of the residual, and nothing is written outside of y's n columns.
/// Nothing needs an alignment beyond that of floats; w is read fastest at a multiple of 64.
struct FloatGemmArgs {
  size_t m;
  size_t n;
  size_t k;
  size_t taps;
  const float* a;
  size_t a_stride;
  const float* const* rows;
  const float* w;
  const float* bias;
  float lo;
  float hi;
  /// Null where nothing is added.
  const float* residual;
  size_t residual_stride;
  float* y;
  size_t y_stride;
  /// Whether sums go on from y, which an earlier call wrote without bounds or a residual, instead
  /// of starting with the bias.
  bool goes_on = false;
};

/// A row of kernels.inc.
struct FloatGemmKernel {
  const char* name;
  Isa isa;
  /// The tile: mr rows by nr columns; work is best split in multiples of them.
  size_t mr;
  size_t nr;
  /// Columns that one panel of w holds; divides nr.
  size_t panel;
  /// Null when the kernel was not built into this binary.
  void (*run)(const FloatGemmArgs& args);
};

/// Returns every kernel that is declared, built or not.
const FloatGemmKernel* float_gemm_kernels(size_t* count);

/// Returns the kernel of that name, or null.
const FloatGemmKernel* find_float_gemm_kernel(const char* name);

/// Returns the kernel for plans of `isa`: a pure function, the same on every machine.
const FloatGemmKernel& select_float_gemm(Isa isa);

/// Returns the floats of packed weights: `[ceil(n/panel)][taps][k][panel]`.
size_t packed_float_gemm_size(const FloatGemmKernel& kernel, size_t n, size_t k, size_t taps);

/// Packs w, whose element for column c, tap t and row k is `w[c * column_step + (t * k_count + k) *
/// row_step]`, missing columns as zeros. Weights `[n][taps][k]` have the steps taps * k and 1, a
/// matrix `[k][n]` has 1 and n.
void pack_float_gemm(const FloatGemmKernel& kernel, const float* w, size_t column_step,
                     size_t row_step, size_t n, size_t k, size_t taps, float* packed);

}  // namespace edgekit
