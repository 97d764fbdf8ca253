#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/elementwise/elementwise.h"
#include "kernels/requantize_arm_neon.h"
#include "kernels/round_arm_neon.h"

namespace edgekit {
namespace {

/// Elements, or pixels of a plane, that are computed at a time.
constexpr size_t kPixels = 16;

/// A QuantizeArgs, its constants spread over lanes.
class Quantize {
 public:
  explicit Quantize(const QuantizeArgs& args)
      : scale_(vdupq_n_f32(args.scale)), round_(args.zero_point, args.lo, args.hi) {}

  /// Returns the codes of 16 values. A quotient is never a signalling NaN.
  int8x16_t codes(const float* x) const {
    const float32x4_t v[4] = {vdivq_f32(vld1q_f32(x), scale_), vdivq_f32(vld1q_f32(x + 4), scale_),
                              vdivq_f32(vld1q_f32(x + 8), scale_),
                              vdivq_f32(vld1q_f32(x + 12), scale_)};
    return round_.codes(v);
  }

 private:
  float32x4_t scale_;
  NeonRound round_;
};

/// Returns 16 codes of an operand, or one of them 16 times.
template <size_t kStep>
inline int8x16_t load_operand(const uint8_t* x) {
  if (kStep == 0) return vdupq_n_s8(static_cast<int8_t>(*x));
  return load_codes(x);
}

/// y = f(a, b), 16 elements at a time, over all rows.
template <size_t kStepA, size_t kStepB, class Function>
void apply_steps(const Operands& o, const Function& f) {
  const size_t full = o.width / kPixels * kPixels;
  const size_t rest = o.width - full;
  for (size_t r = 0; r < o.rows; ++r) {
    const uint8_t* a = o.a + r * o.a_stride;
    const uint8_t* b = o.b + r * o.b_stride;
    uint8_t* y = o.y + r * o.y_stride;
    for (size_t i = 0; i < full; i += kPixels) {
      const int8x16_t codes =
          f(load_operand<kStepA>(a + i * kStepA), load_operand<kStepB>(b + i * kStepB));
      vst1q_s8(reinterpret_cast<int8_t*>(y + i), codes);
    }
    if (rest == 0) continue;
    const int8x16_t last_a = kStepA == 0 ? load_operand<0>(a) : load_codes(a + full, rest);
    const int8x16_t last_b = kStepB == 0 ? load_operand<0>(b) : load_codes(b + full, rest);
    store_codes(y + full, f(last_a, last_b), rest);
  }
}

template <class Function>
void apply(const Operands& o, const Function& f) {
  if (o.a_step == 1 && o.b_step == 1) return apply_steps<1, 1>(o, f);
  if (o.a_step == 1) return apply_steps<1, 0>(o, f);
  if (o.b_step == 1) return apply_steps<0, 1>(o, f);
  return apply_steps<0, 0>(o, f);
}

/// What operators of two inputs have in common: the zero points of both, and how to make codes.
struct Binary {
  explicit Binary(const Operands& o)
      : a_zero_point(vdupq_n_s8(static_cast<int8_t>(o.a_zero_point))),
        b_zero_point(vdupq_n_s8(static_cast<int8_t>(o.b_zero_point))),
        round(o.zero_point, o.lo, o.hi) {}

  /// Returns the codes of `combine(float32(a - z_a), float32(b - z_b))`.
  template <class Combine>
  int8x16_t codes(int8x16_t a, int8x16_t b, const Combine& combine) const {
    const NeonDifferences of_a = subtract(a, a_zero_point);
    const NeonDifferences of_b = subtract(b, b_zero_point);
    const float32x4_t v[4] = {combine(real_differences<0>(of_a), real_differences<0>(of_b)),
                              combine(real_differences<1>(of_a), real_differences<1>(of_b)),
                              combine(real_differences<2>(of_a), real_differences<2>(of_b)),
                              combine(real_differences<3>(of_a), real_differences<3>(of_b))};
    return round.codes(v);
  }

  int8x16_t a_zero_point;
  int8x16_t b_zero_point;
  NeonRound round;
};

/// y = float32(codes - zero_point) * scale of 16 codes.
inline void dequantize_codes(int8x16_t codes, int8x16_t zero_point, float32x4_t scale, float* y) {
  const NeonDifferences d = subtract(codes, zero_point);
  vst1q_f32(y, vmulq_f32(real_differences<0>(d), scale));
  vst1q_f32(y + 4, vmulq_f32(real_differences<1>(d), scale));
  vst1q_f32(y + 8, vmulq_f32(real_differences<2>(d), scale));
  vst1q_f32(y + 12, vmulq_f32(real_differences<3>(d), scale));
}

void dequantize_plane(const DequantizeArgs& args, const uint8_t* x, size_t size, float* y) {
  const int8x16_t zero_point = vdupq_n_s8(static_cast<int8_t>(args.zero_point));
  const float32x4_t scale = vdupq_n_f32(args.scale);
  size_t p = 0;
  for (; p + kPixels <= size; p += kPixels) {
    dequantize_codes(load_codes(x + p), zero_point, scale, y + p);
  }
  for (; p < size; ++p) {
    y[p] = static_cast<float>(static_cast<int8_t>(x[p]) - args.zero_point) * args.scale;
  }
}

/// Pixels that pass through a buffer on their way from pixels to planes.
constexpr size_t kBlock = 256;

/// A table of 256 entries in 16 registers. A look-up leaves lanes alone whose index is no less than
/// 64, so each quarter of the table takes the indices that its place turns into 0 to 63.
class NeonTable {
 public:
  explicit NeonTable(const uint8_t* table) {
    for (size_t i = 0; i < 4; ++i) {
      for (size_t j = 0; j < 4; ++j) quarters_[i].val[j] = vld1q_u8(table + 64 * i + 16 * j);
    }
  }

  uint8x16_t look_up(uint8x16_t x) const {
    uint8x16_t y = vqtbl4q_u8(quarters_[0], x);
    y = vqtbx4q_u8(y, quarters_[1], veorq_u8(x, vdupq_n_u8(0x40)));
    y = vqtbx4q_u8(y, quarters_[2], veorq_u8(x, vdupq_n_u8(0x80)));
    return vqtbx4q_u8(y, quarters_[3], veorq_u8(x, vdupq_n_u8(0xC0)));
  }

 private:
  uint8x16x4_t quarters_[4];
};

/// Below this, loading the table costs more than it saves.
constexpr size_t kFewLookups = 32;

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

void add_s8_s8_s8_arm_neon(const AddArgs& args) {
  const Binary binary(args.operands);
  const float32x4_t ratio_a = vdupq_n_f32(args.ratio_a);
  const float32x4_t ratio_b = vdupq_n_f32(args.ratio_b);
  apply(args.operands, [&](int8x16_t a, int8x16_t b) {
    return binary.codes(a, b, [&](float32x4_t of_a, float32x4_t of_b) {
      return vaddq_f32(vmulq_f32(of_a, ratio_a), vmulq_f32(of_b, ratio_b));
    });
  });
}

void mul_s8_s8_s8_arm_neon(const MulArgs& args) {
  const Binary binary(args.operands);
  const float32x4_t multiplier = vdupq_n_f32(args.multiplier);
  apply(args.operands, [&](int8x16_t a, int8x16_t b) {
    const NeonDifferences of_a = subtract(a, binary.a_zero_point);
    const NeonDifferences of_b = subtract(b, binary.b_zero_point);
    const int32x4_t products[4] = {vmull_s16(vget_low_s16(of_a.low), vget_low_s16(of_b.low)),
                                   vmull_high_s16(of_a.low, of_b.low),
                                   vmull_s16(vget_low_s16(of_a.high), vget_low_s16(of_b.high)),
                                   vmull_high_s16(of_a.high, of_b.high)};
    float32x4_t v[4];
    for (int i = 0; i < 4; ++i) v[i] = vmulq_f32(vcvtq_f32_s32(products[i]), multiplier);
    return binary.round.codes(v);
  });
}

void extreme_s8_s8_s8_arm_neon(const ExtremeArgs& args) {
  const Binary binary(args.operands);
  const float32x4_t ratio_a = vdupq_n_f32(args.ratio_a);
  const float32x4_t ratio_b = vdupq_n_f32(args.ratio_b);
  const bool larger = args.larger;
  apply(args.operands, [&](int8x16_t a, int8x16_t b) {
    return binary.codes(a, b, [&](float32x4_t of_a, float32x4_t of_b) {
      const float32x4_t part_a = vmulq_f32(of_a, ratio_a);
      const float32x4_t part_b = vmulq_f32(of_b, ratio_b);
      const uint32x4_t is_a = larger ? vcgtq_f32(part_a, part_b) : vcltq_f32(part_a, part_b);
      return vbslq_f32(is_a, part_a, part_b);
    });
  });
}

void dequantize_s8_f32_arm_neon(const DequantizeArgs& args) {
  if (args.channels == 1) return dequantize_plane(args, args.x, args.pixels, args.y);
  for (size_t first = 0; first < args.pixels; first += kBlock) {
    const size_t size = args.pixels - first < kBlock ? args.pixels - first : kBlock;
    for (size_t c = 0; c < args.channels; ++c) {
      const uint8_t* x = args.x + first * args.channels + c;
      uint8_t block[kBlock];
      for (size_t p = 0; p < size; ++p) block[p] = x[p * args.channels];
      dequantize_plane(args, block, size, args.y + c * args.channel_step + first);
    }
  }
}

void lookup_x8_x8_arm_neon(const LookupArgs& args) {
  size_t i = 0;
  if (args.size >= kFewLookups) {
    const NeonTable table(args.table);
    for (; i + kPixels <= args.size; i += kPixels) {
      vst1q_u8(args.y + i, table.look_up(vld1q_u8(args.x + i)));
    }
  }
  for (; i < args.size; ++i) args.y[i] = args.table[args.x[i]];
}

}  // namespace edgekit
