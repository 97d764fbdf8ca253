#include "kernels/elementwise/loops.h"

namespace edgekit {
namespace {

void quantize_plane(const QuantizeArgs& args, const float* x, size_t size, uint8_t* y) {
  EDGEKIT_INDEPENDENT
  for (size_t p = 0; p < size; ++p) {
    const float v = clamp_float(x[p] / args.scale, args.lo, args.hi);
    y[p] = static_cast<uint8_t>(args.zero_point + round_to_even(v));
  }
}

void quantize(const QuantizeArgs& args) {
  if (args.channels == 1) return quantize_plane(args, args.x, args.pixels, args.y);
  for (size_t first = 0; first < args.pixels; first += kBlock) {
    const size_t size = args.pixels - first < kBlock ? args.pixels - first : kBlock;
    for (size_t c = 0; c < args.channels; ++c) {
      uint8_t block[kBlock];
      quantize_plane(args, args.x + c * args.channel_step + first, size, block);
      uint8_t* y = args.y + first * args.channels + c;
      for (size_t p = 0; p < size; ++p) y[p * args.channels] = block[p];
    }
  }
}

}  // namespace

void add_s8_s8_s8_generic(const AddArgs& args) { add<Storage::kS8>(args); }
void add_u8_u8_u8_generic(const AddArgs& args) { add<Storage::kU8>(args); }
void mul_s8_s8_s8_generic(const MulArgs& args) { mul<Storage::kS8>(args); }
void mul_u8_u8_u8_generic(const MulArgs& args) { mul<Storage::kU8>(args); }
void extreme_s8_s8_s8_generic(const ExtremeArgs& args) { extreme<Storage::kS8>(args); }
void extreme_u8_u8_u8_generic(const ExtremeArgs& args) { extreme<Storage::kU8>(args); }
void quantize_f32_s8_generic(const QuantizeArgs& args) { quantize(args); }
void quantize_f32_u8_generic(const QuantizeArgs& args) { quantize(args); }
void quantize_parts_f32_s8_generic(const QuantizePartsArgs& args) { quantize_parts(args); }
void quantize_parts_f32_u8_generic(const QuantizePartsArgs& args) { quantize_parts(args); }
void dequantize_s8_f32_generic(const DequantizeArgs& args) { dequantize<Storage::kS8>(args); }
void dequantize_u8_f32_generic(const DequantizeArgs& args) { dequantize<Storage::kU8>(args); }

void lookup_x8_x8_generic(const LookupArgs& args) {
  for (size_t i = 0; i < args.size; ++i) args.y[i] = args.table[args.x[i]];
}

}  // namespace edgekit
