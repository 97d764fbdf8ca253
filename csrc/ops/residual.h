#pragma once

#include <cstdint>

#include "ops/tensor.h"

namespace edgekit {

/// A sum fused into a convolution: its own codes (scale, zero_point, lo, hi) plus `tensor`, as
/// ARITHMETIC.md's "add". The sum has the quantization of the op's output and the op's lo and hi.
/// Where the output is float32, `tensor` is so too, and is added to the product; the others mean
/// nothing.
struct Residual {
  /// False: there is no sum, and the other members mean nothing.
  bool present = false;
  /// Elements like the output's, of its shape; must not overlap the output.
  TensorView tensor;
  float scale = 1;
  int32_t zero_point = 0;
  int32_t lo = -128;
  int32_t hi = 127;
};

}  // namespace edgekit
