#pragma once

#include "kernels/rounding.h"
#include "kernels/storage.h"
#include "kernels/wide/wide.h"

// The steps of 16x8 layers, for every instruction set: loops that compilers turn into its vector
// code. Internal linkage throughout: each compiles its own copy.

namespace edgekit {
namespace {

constexpr float kMostWideCode = 32767.0F;

inline int32_t wide_code(float x, float step) {
  return round_to_even(clamp_float(x / step, -kMostWideCode, kMostWideCode));
}

void make_codes(const WideCodesArgs& args) {
  const float* x = args.x;
  int16_t* y = args.y;
  const float step = args.step;
  const size_t count = args.count;
  EDGEKIT_INDEPENDENT
  for (size_t i = 0; i < count; ++i) y[i] = static_cast<int16_t>(wide_code(x[i], step));
}

void make_bytes(const WideBytesArgs& args) {
  // The bytes could alias `args` itself.
  const float* x = args.x;
  uint8_t* upper = args.upper;
  uint8_t* lower = args.lower;
  const float step = args.step;
  const int32_t upper_offset = args.upper_offset;
  const int32_t lower_offset = args.lower_offset;
  const size_t count = args.count;
  EDGEKIT_INDEPENDENT
  for (size_t i = 0; i < count; ++i) {
    const int32_t code = wide_code(x[i], step);
    upper[i] = static_cast<uint8_t>((code >> 8) + upper_offset);
    lower[i] = static_cast<uint8_t>((code & 255) + lower_offset);
  }
}

void add_products(const WideProductsArgs& args) {
  const size_t channels = args.channels;
  int32_t* sums = args.sums;
  for (size_t c = 0; c < channels; ++c) sums[c] = 0;
  for (size_t t = 0; t < args.count; ++t) {
    const int16_t* q = args.q[t];
    const int16_t* w = args.w + args.taps[t] * channels;
    EDGEKIT_INDEPENDENT
    for (size_t c = 0; c < channels; ++c) sums[c] += q[c] * w[c];
  }
}

/// Returns the output of one channel from its exact sum.
///
/// In [2^52, 2^53) doubles are the whole numbers, so adding 1.5 * 2^52 and taking it away again
/// rounds, ties to even.
inline float finish_sum(double sum, double multiplier, double lo, double hi, float step) {
  constexpr double kMagic = 6755399441055744.0;
  double v = sum * multiplier;
  v = v > lo ? v : lo;
  v = v < hi ? v : hi;
  v = (v + kMagic) - kMagic;
  return static_cast<float>(v) * step;
}

void finish(const WideFinishArgs& args) {
  constexpr double kByte = 256.0;
  const int32_t* upper = args.upper;
  const int32_t* lower = args.lower;
  const double* bias = args.bias;
  const double* multiplier = args.multiplier;
  const double lo = args.lo;
  const double hi = args.hi;
  const float step = args.step;
  float* y = args.y;
  const size_t channels = args.channels;
  if (upper == nullptr) {
    EDGEKIT_INDEPENDENT
    for (size_t o = 0; o < channels; ++o) {
      const double sum = static_cast<double>(lower[o]) + bias[o];
      y[o] = finish_sum(sum, multiplier[o], lo, hi, step);
    }
    return;
  }
  EDGEKIT_INDEPENDENT
  for (size_t o = 0; o < channels; ++o) {
    const double both = kByte * static_cast<double>(upper[o]) + static_cast<double>(lower[o]);
    y[o] = finish_sum(both + bias[o], multiplier[o], lo, hi, step);
  }
}

}  // namespace
}  // namespace edgekit
