#pragma once

#include <cmath>
#include <cstddef>

#include "kernels/float_depthwise/float_depthwise.h"

namespace edgekit {

/// Computes what FloatDepthwiseArgs says, one output at a time, from weights `[channels][kernel_h]
/// [kernel_w]` that are not packed (args.w is ignored). The oracle for every float32 depthwise
/// kernel: it shares no code with them.
inline void reference_float_depthwise(const FloatDepthwiseArgs& args, const float* w) {
  for (size_t i = 0; i < args.out_rows; ++i) {
    for (size_t j = 0; j < args.out_width; ++j) {
      for (size_t c = 0; c < args.channels; ++c) {
        float acc = args.bias[c];
        for (size_t r = 0; r < args.kernel_h; ++r) {
          const float* row = args.rows[i * args.stride_h + r * args.dilation_h];
          for (size_t s = 0; s < args.kernel_w; ++s) {
            const auto v = static_cast<std::ptrdiff_t>(j * args.stride_w + s * args.dilation_w) -
                           static_cast<std::ptrdiff_t>(args.pad_left);
            const bool inside = v >= 0 && v < static_cast<std::ptrdiff_t>(args.in_width);
            const float x = inside ? row[static_cast<size_t>(v) * args.channels + c] : args.zero[c];
            acc = std::fma(x, w[(c * args.kernel_h + r) * args.kernel_w + s], acc);
          }
        }
        const size_t element = j * args.channels + c;
        if (args.residual != nullptr) {
          acc = acc + args.residual[i * args.residual_stride / sizeof(float) + element];
        }
        args.y[i * args.y_stride / sizeof(float) + element] = acc < args.lo   ? args.lo
                                                              : acc > args.hi ? args.hi
                                                                              : acc;
      }
    }
  }
}

}  // namespace edgekit
