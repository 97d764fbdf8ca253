#pragma once

#include <cmath>
#include <cstddef>

#include "kernels/float_gemm/float_gemm.h"

namespace edgekit {

/// Computes what FloatGemmArgs says, one output at a time, from weights `[n][taps][k]` that are not
/// packed (args.w is ignored). The oracle for every float32 GEMM kernel: it shares no code with
/// them.
inline void reference_float_gemm(const FloatGemmArgs& args, const float* w) {
  const auto at = [](const float* from, size_t row, size_t stride) {
    return reinterpret_cast<const float*>(reinterpret_cast<const char*>(from) + row * stride);
  };
  for (size_t m = 0; m < args.m; ++m) {
    float* y = const_cast<float*>(at(args.y, m, args.y_stride));
    for (size_t c = 0; c < args.n; ++c) {
      float acc = args.bias[c];
      for (size_t t = 0; t < args.taps; ++t) {
        const float* a = args.rows ? args.rows[m * args.taps + t] : at(args.a, m, args.a_stride);
        for (size_t k = 0; k < args.k; ++k) {
          acc = std::fma(a[k], w[(c * args.taps + t) * args.k + k], acc);
        }
      }
      if (args.residual != nullptr) acc = acc + at(args.residual, m, args.residual_stride)[c];
      y[c] = acc < args.lo ? args.lo : acc > args.hi ? args.hi : acc;
    }
  }
}

}  // namespace edgekit
