#pragma once

#include <cmath>

#include "kernels/depthwise/depthwise.h"

namespace edgekit {

/// Computes what DepthwiseArgs says, one output at a time, from weights `[channels][kernel_h]
/// [kernel_w]` that are not packed (args.w is ignored). The oracle for every depthwise kernel: it
/// shares no code with them.
inline void reference_depthwise(const DepthwiseArgs& args, Storage storage, const int8_t* w) {
  const Requantize& q = args.requantize;
  const auto value = [&](uint8_t byte) {
    return storage == Storage::kU8 ? int32_t{byte} : int32_t{static_cast<int8_t>(byte)};
  };
  for (size_t i = 0; i < args.out_rows; ++i) {
    for (size_t j = 0; j < args.out_width; ++j) {
      for (size_t c = 0; c < args.channels; ++c) {
        int32_t acc = args.bias[c];
        for (size_t r = 0; r < args.kernel_h; ++r) {
          const uint8_t* row = args.rows[i * args.stride_h + r * args.dilation_h];
          for (size_t s = 0; s < args.kernel_w; ++s) {
            const auto x = static_cast<std::ptrdiff_t>(j * args.stride_w + s * args.dilation_w) -
                           static_cast<std::ptrdiff_t>(args.pad_left);
            const bool inside = x >= 0 && x < static_cast<std::ptrdiff_t>(args.in_width);
            const uint8_t byte =
                inside ? row[static_cast<size_t>(x) * args.channels + c] : args.zero[c];
            acc += value(byte) * w[(c * args.kernel_h + r) * args.kernel_w + s];
          }
        }
        const float product = static_cast<float>(acc) * q.scale[c];
        const float v = std::nearbyint(std::fmin(std::fmax(product, q.lo), q.hi));
        int32_t code = q.zero_point + static_cast<int32_t>(v);
        if (q.residual != nullptr) {
          const int32_t other = value(q.residual[i * q.residual_stride + j * args.channels + c]);
          const float a = v * q.ratio_a;
          const float b = static_cast<float>(other - q.residual_zero_point) * q.ratio_b;
          const float sum = std::nearbyint(std::fmin(std::fmax(a + b, q.sum_lo), q.sum_hi));
          code = q.sum_zero_point + static_cast<int32_t>(sum);
        }
        args.y[i * args.y_stride + j * args.channels + c] = static_cast<uint8_t>(code);
      }
    }
  }
}

}  // namespace edgekit
