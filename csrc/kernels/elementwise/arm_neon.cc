#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise/elementwise.h"

namespace edgekit {
namespace {

/// Pixels that are quantized at a time.
constexpr size_t kPixels = 16;

/// A QuantizeArgs, its constants spread over lanes.
class Quantize {
 public:
  explicit Quantize(const QuantizeArgs& args)
      : scale_(vdupq_n_f32(args.scale)),
        lo_(vdupq_n_f32(args.lo)),
        hi_(vdupq_n_f32(args.hi)),
        zero_point_(vdupq_n_s16(static_cast<int16_t>(args.zero_point))) {}

  /// Returns the codes of 16 values.
  int8x16_t codes(const float* x) const {
    const int16x8_t low = vqmovn_high_s32(vqmovn_s32(rounded(x)), rounded(x + 4));
    const int16x8_t high = vqmovn_high_s32(vqmovn_s32(rounded(x + 8)), rounded(x + 12));
    return vqmovn_high_s16(vqmovn_s16(vaddq_s16(low, zero_point_)), vaddq_s16(high, zero_point_));
  }

 private:
  /// fmaxnm takes the number where the other operand is none; a quotient is never a signalling NaN.
  int32x4_t rounded(const float* x) const {
    const float32x4_t v = vdivq_f32(vld1q_f32(x), scale_);
    return vcvtnq_s32_f32(vminnmq_f32(vmaxnmq_f32(v, lo_), hi_));
  }

  float32x4_t scale_;
  float32x4_t lo_;
  float32x4_t hi_;
  int16x8_t zero_point_;
};

}  // namespace

void quantize_f32_s8_arm_neon(const QuantizeArgs& args) {
  const Quantize quantize(args);
  const size_t full = args.pixels / kPixels * kPixels;
  int8_t* y = reinterpret_cast<int8_t*>(args.y);
  for (size_t p = 0; p < full; p += kPixels) {
    const float* x = args.x + p;
    int8_t* pixels = y + p * args.channels;
    if (args.channels == 1) {
      vst1q_s8(pixels, quantize.codes(x));
    } else if (args.channels == 3) {
      const float* green = x + args.channel_step;
      const float* blue = green + args.channel_step;
      // Clang's vst3q_s8 is a macro, which takes no braces.
      const int8x16x3_t planes = {{quantize.codes(x), quantize.codes(green), quantize.codes(blue)}};
      vst3q_s8(pixels, planes);
    } else {
      for (size_t c = 0; c < args.channels; ++c) {
        int8_t codes[kPixels];
        vst1q_s8(codes, quantize.codes(x + c * args.channel_step));
        for (size_t i = 0; i < kPixels; ++i) pixels[i * args.channels + c] = codes[i];
      }
    }
  }
  const size_t rest = args.pixels - full;
  if (rest == 0) return;
  for (size_t c = 0; c < args.channels; ++c) {
    float values[kPixels] = {};
    int8_t codes[kPixels];
    const float* x = args.x + c * args.channel_step + full;
    for (size_t i = 0; i < rest; ++i) values[i] = x[i];
    vst1q_s8(codes, quantize.codes(values));
    for (size_t i = 0; i < rest; ++i) y[(full + i) * args.channels + c] = codes[i];
  }
}

}  // namespace edgekit
