#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_list.h"

namespace edgekit {

/// Softmax of `rows` rows of n codes that lie side by side, in integers (docs/arithmetic.md,
/// "Softmax"):
///
///   e[i] = table[max(x) - x[i]],  D = sum(e) << 16
///   y[i] = clamp(zero_point + (e[i] * ratio / D rounded to nearest, ties to even), lo, hi)
///
/// n <= 2^17; table holds 256 entries of at most 2^30, the first not 0; ratio <= 2^33, so that no
/// product leaves 64 bits. zero_point, lo and hi are stored values. y may be x.
struct SoftmaxArgs {
  size_t rows;
  size_t n;
  const uint8_t* x;
  uint8_t* y;
  const uint32_t* table;
  uint64_t ratio;
  int32_t zero_point;
  int32_t lo;
  int32_t hi;
};

template <>
KernelList<SoftmaxArgs> kernels<SoftmaxArgs>();

}  // namespace edgekit
