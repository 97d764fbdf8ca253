#pragma once

#include <cmath>

#include "kernels/shallow/shallow.h"

namespace edgekit {

/// Computes what ShallowArgs says, one output at a time, from weights `[n][kernel_h][kernel_w]
/// [channels]` that are not packed (args.w is ignored). The oracle for every shallow kernel: it
/// shares no code with them.
inline void reference_shallow(const ShallowArgs& args, Storage storage, const int8_t* w) {
  const Requantize& q = args.requantize;
  const auto value = [&](uint8_t byte) {
    return storage == Storage::kU8 ? int32_t{byte} : int32_t{static_cast<int8_t>(byte)};
  };
  const size_t row_size = args.kernel_w * args.channels;
  for (size_t i = 0; i < args.out_rows; ++i) {
    for (size_t j = 0; j < args.out_width; ++j) {
      for (size_t o = 0; o < args.n; ++o) {
        int32_t acc = args.bias[o];
        for (size_t r = 0; r < args.kernel_h; ++r) {
          const uint8_t* x = args.rows[i * args.stride_h + r * args.dilation_h] +
                             j * args.stride_w * args.channels;
          for (size_t b = 0; b < row_size; ++b) {
            acc += value(x[b]) * w[(o * args.kernel_h + r) * row_size + b];
          }
        }
        const float product = static_cast<float>(acc) * q.scale[o];
        const float v = std::nearbyint(std::fmin(std::fmax(product, q.lo), q.hi));
        int32_t code = q.zero_point + static_cast<int32_t>(v);
        if (q.residual != nullptr) {
          const int32_t other = value(q.residual[i * q.residual_stride + j * args.n + o]);
          const float a = v * q.ratio_a;
          const float b = static_cast<float>(other - q.residual_zero_point) * q.ratio_b;
          const float sum = std::nearbyint(std::fmin(std::fmax(a + b, q.sum_lo), q.sum_hi));
          code = q.sum_zero_point + static_cast<int32_t>(sum);
        }
        args.y[i * args.y_stride + j * args.n + o] = static_cast<uint8_t>(code);
      }
    }
  }
}

}  // namespace edgekit
