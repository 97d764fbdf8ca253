#pragma once

#include <cmath>
#include <cstring>

#include "kernels/gemm/gemm.h"

namespace edgekit {

/// Computes what GemmArgs says, one output at a time, from weights `[n][taps][k]` that are not
/// packed (args.w is ignored). The oracle for every GEMM kernel: it shares no code with them.
inline void reference_gemm(const GemmArgs& args, Storage storage, const int8_t* w) {
  const Requantize& q = args.requantize;
  const auto value = [&](uint8_t byte) {
    return storage == Storage::kU8 ? int32_t{byte} : int32_t{static_cast<int8_t>(byte)};
  };
  for (size_t m = 0; m < args.m; ++m) {
    for (size_t c = 0; c < args.n; ++c) {
      int32_t acc = args.bias[c];
      for (size_t t = 0; t < args.taps; ++t) {
        const uint8_t* a = args.rows ? args.rows[m * args.taps + t]
                                     : args.a + m * args.a_stride + t * args.tap_step;
        for (size_t k = 0; k < args.k; ++k)
          acc += value(a[k]) * w[(c * args.taps + t) * args.k + k];
      }
      float product = static_cast<float>(acc) * q.scale[c];
      uint8_t* y = static_cast<uint8_t*>(args.y) + m * args.y_stride;
      if (args.output == Output::kFloat32Sum) {
        float before = 0;
        std::memcpy(&before, q.residual + m * q.residual_stride + c * sizeof(before),
                    sizeof(before));
        product = before + product;
      }
      if (args.output == Output::kInt32) {
        std::memcpy(y + c * sizeof(acc), &acc, sizeof(acc));
      } else if (args.output != Output::kCodes) {
        std::memcpy(y + c * sizeof(product), &product, sizeof(product));
      } else {
        const float v = std::nearbyint(std::fmin(std::fmax(product, q.lo), q.hi));
        int32_t code = q.zero_point + static_cast<int32_t>(v);
        if (q.residual != nullptr) {
          const int32_t other = value(q.residual[m * q.residual_stride + c]);
          const float a = v * q.ratio_a;
          const float b = static_cast<float>(other - q.residual_zero_point) * q.ratio_b;
          const float sum = std::nearbyint(std::fmin(std::fmax(a + b, q.sum_lo), q.sum_hi));
          code = q.sum_zero_point + static_cast<int32_t>(sum);
        }
        y[c] = static_cast<uint8_t>(code);
      }
    }
  }
}

}  // namespace edgekit
