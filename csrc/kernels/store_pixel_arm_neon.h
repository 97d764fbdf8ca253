#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/requantize_arm_neon.h"

namespace edgekit {
// Each file that includes this is compiled for its own instruction set: nothing here may be shared
// by the linker.
namespace {

/// Writes pixel (i, j) of the 16 channels from `channel` on, or of those that are left of
/// `channels`, in every case. Args has `requantize`, `y` and `y_stride` as DepthwiseArgs has them;
/// `sums` are 16.
template <class Args>
__attribute__((noinline)) void store_pixel(const Args& args, size_t channels,
                                           const NeonRequantize& requantize, const int32_t* sums,
                                           size_t i, size_t j, size_t channel) {
  constexpr size_t kLanes = 16;
  const size_t count = channels - channel < kLanes ? channels - channel : kLanes;
  const Scales16 scale = load_scales(args.requantize.scale + channel);
  const Sums16 acc = load_sums(sums);
  const size_t at = j * channels + channel;
  int8x16_t codes;
  if (requantize.has_residual()) {
    const uint8_t* residual = args.requantize.residual + i * args.requantize.residual_stride + at;
    codes = requantize.add(acc, scale, load_codes(residual, count));
  } else {
    codes = requantize.codes(acc, scale);
  }
  store_codes(args.y + i * args.y_stride + at, codes, count);
}

}  // namespace
}  // namespace edgekit
