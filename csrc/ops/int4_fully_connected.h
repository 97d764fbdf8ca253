#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "ops/float_layer.h"
#include "ops/op.h"
#include "ops/tensor.h"

namespace edgekit {

/// A matrix product of float32 rows with int4 weights:
///
///   w[o, k] = float32(q[o, k]) * scale[k / group, o]      rounded
///   y[m, o] = as FloatFullyConnected with these weights
///
/// The output must not overlap the input.
struct Int4FullyConnectedParams {
  /// float32.
  TensorView input;
  /// float32.
  TensorView output;
  /// A row of kernels/float_gemm/kernels.inc.
  const char* kernel = "";
  /// Weights along k that share a scale: even, or all.
  uint32_t group = 0;
  /// q in panels of the kernel, `[ceil(n / panel)][ceil(k / 2)][panel]`: the even one of two
  /// neighbours along k in the lower half of a byte. What is missing is zero.
  Blob weights;
  /// float32 `[ceil(k / group)][n, whole panels]`.
  Blob scales;
  FloatEpilogue epilogue;
};

std::unique_ptr<Op> make_int4_fully_connected(const Int4FullyConnectedParams& params,
                                              const PlanTarget& target, std::string* error);

}  // namespace edgekit
