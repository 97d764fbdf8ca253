#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/kernel_list.h"

namespace edgekit {

/// Makes float32 weights of int4 ones, two rows of `panel` columns of each row of bytes:
///
///   y[2 * j, c]     = float32(lower half of w[j, c]) * scale[c]      0 <= j < pairs, 0 <= c <
///   panel y[2 * j + 1, c] = float32(upper half of w[j, c]) * scale[c]
///
/// the halves in [-8, 7], each product rounded once. w is [pairs][panel], y [2 * pairs][panel];
/// panel is 8 or 16.
struct NibbleFloatsArgs {
  size_t pairs;
  size_t panel;
  const int8_t* w;
  const float* scale;
  float* y;
};

template <>
KernelList<NibbleFloatsArgs> kernels<NibbleFloatsArgs>();

}  // namespace edgekit
