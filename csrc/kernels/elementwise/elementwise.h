#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_list.h"

namespace edgekit {

/// The operands of an elementwise kernel of two inputs: `rows` rows of `width` outputs,
///
///   y[r, i] = f(a[r * a_stride + i * a_step], b[r * b_stride + i * b_step])
///
/// stored bytes all, strides in bytes. A step is 1 or 0; a stride may be 0. So a channel's constant
/// has stride 0 and step 1, a scalar 0 and 0. Zero points are stored values; lo and hi are bounds
/// of y less its zero point. y may be the very memory of an input of stride y_stride and step 1,
/// and does not overlap one otherwise.
struct Operands {
  size_t rows;
  size_t width;
  const uint8_t* a;
  size_t a_stride;
  size_t a_step;
  const uint8_t* b;
  size_t b_stride;
  size_t b_step;
  uint8_t* y;
  size_t y_stride;
  int32_t a_zero_point;
  int32_t b_zero_point;
  int32_t zero_point;
  float lo;
  float hi;
};

/// y = zero_point + rne(clamp(float32(a - z_a) * ratio_a + float32(b - z_b) * ratio_b, lo, hi)); a
/// difference has a negative ratio_b, which changes no rounding.
struct AddArgs {
  Operands operands;
  float ratio_a;
  float ratio_b;
};

/// y = zero_point + rne(clamp(float32((a - z_a) * (b - z_b)) * multiplier, lo, hi)).
struct MulArgs {
  Operands operands;
  float multiplier;
};

/// y = zero_point + rne(clamp(m, lo, hi)), m being the larger of float32(a - z_a) * ratio_a and
/// float32(b - z_b) * ratio_b, or the smaller.
struct ExtremeArgs {
  Operands operands;
  float ratio_a;
  float ratio_b;
  bool larger;
};

/// y[p * channels + c] = zero_point + rne(clamp(x[c * channel_step + p] / scale, lo, hi)) for p <
/// pixels: one plane a channel in, channels side by side out. NaN becomes lo.
struct QuantizeArgs {
  size_t pixels;
  size_t channels;
  const float* x;
  size_t channel_step;
  uint8_t* y;
  float scale;
  int32_t zero_point;
  float lo;
  float hi;
};

/// Codes in parts (docs/arithmetic.md): with t = clamp(x * inverse, lo, hi), h = rne(t), NaN
/// becoming lo,
///
///   y[(r * parts + 0) * width + i] = zero_point + h
///   y[(r * parts + 1) * width + i] = zero_point + rne(16 * (t - h))
///   y[(r * parts + 2) * width + i] = zero_point + rne(h / 16)         where there are three
///
/// of x[r * width + i], for r < rows and i < width; parts is 2 or 3.
struct QuantizePartsArgs {
  size_t rows;
  size_t width;
  size_t parts;
  const float* x;
  uint8_t* y;
  float inverse;
  int32_t zero_point;
  float lo;
  float hi;
};

/// y[c * channel_step + p] = float32(x[p * channels + c] - zero_point) * scale for p < pixels.
struct DequantizeArgs {
  size_t pixels;
  size_t channels;
  const uint8_t* x;
  float* y;
  size_t channel_step;
  float scale;
  int32_t zero_point;
};

/// y[i] = table[x[i]] for bytes as they are stored: 256 entries. y may be x.
struct LookupArgs {
  size_t size;
  const uint8_t* x;
  uint8_t* y;
  const uint8_t* table;
};

template <>
KernelList<AddArgs> kernels<AddArgs>();
template <>
KernelList<MulArgs> kernels<MulArgs>();
template <>
KernelList<ExtremeArgs> kernels<ExtremeArgs>();
template <>
KernelList<QuantizeArgs> kernels<QuantizeArgs>();
template <>
KernelList<QuantizePartsArgs> kernels<QuantizePartsArgs>();
template <>
KernelList<DequantizeArgs> kernels<DequantizeArgs>();
template <>
KernelList<LookupArgs> kernels<LookupArgs>();

}  // namespace edgekit
