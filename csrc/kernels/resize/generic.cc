// Rows of a resize in plain C++, written so that compilers vectorize over the channels.

#include <cstring>

#include "kernels/resize/resize.h"
#include "kernels/rounding.h"
#include "kernels/storage.h"

namespace edgekit {
namespace {

/// Bytes that are copied at once, where a pixel is not worth a call.
constexpr size_t kChunk = 16;

template <Storage storage>
void linear_row(const LinearRowArgs& args) {
  const size_t channels = args.channels;
  const int32_t bottom_weight = args.row_weight;
  const int32_t top_weight = kResizeOne - bottom_weight;
  for (size_t j = 0; j < args.pixels; ++j) {
    const size_t left = args.columns[j] * channels;
    const size_t right = args.columns[j] + 1 < args.in_width ? left + channels : left;
    const int32_t right_weight = args.weights[j];
    const int32_t left_weight = kResizeOne - right_weight;
    const uint8_t* top_left = args.top + left;
    const uint8_t* top_right = args.top + right;
    const uint8_t* bottom_left = args.bottom + left;
    const uint8_t* bottom_right = args.bottom + right;
    uint8_t* y = args.y + j * channels;
    for (size_t c = 0; c < channels; ++c) {
      const auto centred = [&](const uint8_t* x) {
        return stored_value<storage>(x[c]) - args.x_zero_point;
      };
      const int32_t top = left_weight * centred(top_left) + right_weight * centred(top_right);
      const int32_t bottom =
          left_weight * centred(bottom_left) + right_weight * centred(bottom_right);
      const auto acc = static_cast<float>(top_weight * top + bottom_weight * bottom);
      const float v = clamp_float(acc * args.multiplier, args.lo, args.hi);
      y[c] = static_cast<uint8_t>(args.zero_point + round_to_even(v));
    }
  }
}

}  // namespace

void nearest_row_any_any_generic(const NearestRowArgs& args) {
  const size_t size = args.size;
  // A chunk may end in the next pixels, which are written later; the last pixels have none.
  const size_t last = args.pixels * size < kChunk ? 0 : args.pixels * size - kChunk;
  for (size_t j = 0; j < args.pixels; ++j) {
    const uint8_t* x = args.x + args.columns[j] * size;
    uint8_t* y = args.y + j * size;
    size_t i = 0;
    while (i < size && j * size + i <= last && args.pixels * size >= kChunk) {
      std::memcpy(y + i, x + i, kChunk);
      i += kChunk;
    }
    if (i < size) std::memcpy(y + i, x + i, size - i);
  }
}

void linear_row_s8_s8_generic(const LinearRowArgs& args) { linear_row<Storage::kS8>(args); }
void linear_row_u8_u8_generic(const LinearRowArgs& args) { linear_row<Storage::kU8>(args); }

}  // namespace edgekit
