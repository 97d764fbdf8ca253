#include <cstring>

#include "kernels/depthwise/depthwise.h"
#include "kernels/requantize_scalar.h"

// One pixel by one block of 16 channels at a time, for any CPU and any kernel size, stride and
// dilation; a column outside the row is read from `zero`.

namespace edgekit {
namespace {

constexpr size_t kCr = 16;

/// acc[c] += x[c] * w[c]. A product fits 16 bits, in which vectors hold twice as many. GCC
/// vectorizes the loop only while it is one.
template <Storage storage>
inline void multiply(const uint8_t* __restrict x, const int8_t* __restrict w,
                     int32_t* __restrict acc) {
#pragma GCC unroll 1
  for (size_t c = 0; c < kCr; ++c)
    acc[c] += static_cast<int16_t>(stored_value<storage>(x[c]) * w[c]);
}

template <Storage storage>
void depthwise(const DepthwiseArgs& args) {
  const Requantize& requantize = args.requantize;
  for (size_t i = 0; i < args.out_rows; ++i) {
    const int8_t* block = args.w;
    for (size_t c0 = 0; c0 < args.channels; c0 += kCr) {
      const size_t count = args.channels - c0 < kCr ? args.channels - c0 : kCr;
      for (size_t j = 0; j < args.out_width; ++j) {
        int32_t acc[kCr];
        std::memcpy(acc, args.bias + c0, sizeof(acc));
        const int8_t* w = block;
        for (size_t s = 0; s < args.kernel_w; ++s) {
          // A column left of the row wraps around and is thereby outside as well.
          const size_t column = j * args.stride_w + s * args.dilation_w - args.pad_left;
          const bool inside = column < args.in_width;
          for (size_t r = 0; r < args.kernel_h; ++r, w += kCr) {
            const uint8_t* row = args.rows[i * args.stride_h + r * args.dilation_h];
            const uint8_t* x = inside ? row + column * args.channels + c0 : args.zero + c0;
            multiply<storage>(x, w, acc);
          }
        }
        const size_t pixel = j * args.channels + c0;
        uint8_t* y = args.y + i * args.y_stride + pixel;
        for (size_t c = 0; c < count; ++c) {
          const uint8_t other =
              requantize.residual ? requantize.residual[i * requantize.residual_stride + pixel + c]
                                  : uint8_t{0};
          y[c] = requantize_byte<storage>(requantize, acc[c], c0 + c, other);
        }
      }
      block += kCr * args.kernel_w * args.kernel_h;
    }
  }
}

}  // namespace

void depthwise_s8_s8c_s8_generic(const DepthwiseArgs& args) { depthwise<Storage::kS8>(args); }

void depthwise_u8_s8c_u8_generic(const DepthwiseArgs& args) { depthwise<Storage::kU8>(args); }

}  // namespace edgekit
