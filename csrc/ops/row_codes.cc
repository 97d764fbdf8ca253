#include "ops/row_codes.h"

namespace edgekit {
namespace {

constexpr float kMostCode = 127.0F;

}  // namespace

RowCodes::RowCodes(const PlanTarget& target)
    : zero_point_(storage_offset(target.storage)),
      quantize_(select_kernel<QuantizeArgs>(target.isa, target.storage).run),
      vector_(select_float_vector(target.isa)) {}

void RowCodes::make(const float* x, size_t count, size_t k, uint8_t* codes, float* scales) const {
  vector_.magnitude({count, k, x, scales});
  for (size_t i = 0; i < count; ++i) scales[i] = scales[i] / kMostCode;
  quantize(x, count, k, codes, scales);
}

void RowCodes::make_by(float scale, const float* x, size_t count, size_t k, uint8_t* codes,
                       float* scales) const {
  for (size_t i = 0; i < count; ++i) scales[i] = scale;
  quantize(x, count, k, codes, scales);
}

float RowCodes::find_scale(const float* x, size_t count) const {
  float magnitude = 0;
  vector_.magnitude({1, count, x, &magnitude});
  return magnitude / kMostCode;
}

void RowCodes::quantize(const float* x, size_t count, size_t k, uint8_t* codes,
                        const float* scales) const {
  QuantizeArgs args = {};
  args.pixels = k;
  args.channels = 1;
  args.channel_step = k;
  args.zero_point = zero_point_;
  args.lo = -kMostCode;
  args.hi = kMostCode;
  for (size_t i = 0; i < count; ++i) {
    args.scale = scales[i];
    args.x = x + i * k;
    args.y = codes + i * k;
    quantize_(args);
  }
}

}  // namespace edgekit
