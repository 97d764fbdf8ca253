#pragma once

#include <cstddef>
#include <cstdint>

#include "isa/isa.h"

namespace edgekit {

/// Codes of 16 bits around 0: q = clamp(rne(x / step), -32767, 32767), NaN becoming -32767.
struct WideCodesArgs {
  size_t count;
  const float* x;
  float step;
  int16_t* y;
};

/// The same codes as their upper and lower bytes, each with an offset added.
struct WideBytesArgs {
  size_t count;
  const float* x;
  float step;
  int32_t upper_offset;
  int32_t lower_offset;
  uint8_t* upper;
  uint8_t* lower;
};

/// sums[c] = the sum over taps of q[t][c] * w[taps[t] * channels + c].
struct WideProductsArgs {
  size_t channels;
  size_t count;
  const int16_t* const* q;
  const uint16_t* taps;
  const int16_t* w;
  int32_t* sums;
};

/// y[o] = float32(clamp(rne((256 * upper[o] + lower[o] + bias[o]) * multiplier[o]), lo, hi)) * step
/// with everything before float32 in float64; upper may be null, which stands for zeros.
struct WideFinishArgs {
  size_t channels;
  const int32_t* upper;
  const int32_t* lower;
  const double* bias;
  const double* multiplier;
  double lo;
  double hi;
  float step;
  float* y;
};

/// A row of kernels.inc: the steps of 16x8 layers around their products, for one instruction set.
struct WideKernels {
  const char* name;
  Isa isa;
  bool built;
  void (*codes)(const WideCodesArgs& args);
  void (*bytes)(const WideBytesArgs& args);
  void (*products)(const WideProductsArgs& args);
  void (*finish)(const WideFinishArgs& args);
};

/// Returns the kernels for plans of `isa`: a pure function, the same on every machine.
const WideKernels& select_wide(Isa isa);

}  // namespace edgekit
