#include <cstring>

#include "kernels/requantize_scalar.h"
#include "kernels/shallow/shallow.h"

// One pixel by one block of 16 output channels at a time: each byte of the window times a row of
// weights.

namespace edgekit {
namespace {

constexpr size_t kNr = 16;

/// acc[o] += x * w[o]. A product fits 16 bits, in which vectors hold twice as many. GCC vectorizes
/// the loop only while it is one.
inline void multiply(int32_t x, const int8_t* __restrict w, int32_t* __restrict acc) {
#pragma GCC unroll 1
  for (size_t o = 0; o < kNr; ++o) acc[o] += static_cast<int16_t>(x * w[o]);
}

template <Storage storage>
void shallow(const ShallowArgs& args) {
  const Requantize& requantize = args.requantize;
  const size_t row_size = args.kernel_w * args.channels;
  for (size_t i = 0; i < args.out_rows; ++i) {
    const int8_t* block = args.w;
    for (size_t n0 = 0; n0 < args.n; n0 += kNr) {
      const size_t count = args.n - n0 < kNr ? args.n - n0 : kNr;
      for (size_t j = 0; j < args.out_width; ++j) {
        int32_t acc[kNr];
        std::memcpy(acc, args.bias + n0, sizeof(acc));
        const int8_t* w = block;
        for (size_t r = 0; r < args.kernel_h; ++r) {
          const uint8_t* x = args.rows[i * args.stride_h + r * args.dilation_h] +
                             j * args.stride_w * args.channels;
          for (size_t b = 0; b < row_size; ++b, w += kNr) {
            multiply(stored_value<storage>(x[b]), w, acc);
          }
        }
        const size_t pixel = j * args.n + n0;
        uint8_t* y = args.y + i * args.y_stride + pixel;
        for (size_t o = 0; o < count; ++o) {
          const uint8_t other =
              requantize.residual ? requantize.residual[i * requantize.residual_stride + pixel + o]
                                  : uint8_t{0};
          y[o] = requantize_byte<storage>(requantize, acc[o], n0 + o, other);
        }
      }
      block += kNr * args.kernel_h * row_size;
    }
  }
}

}  // namespace

void shallow_s8_s8c_s8_generic(const ShallowArgs& args) { shallow<Storage::kS8>(args); }

void shallow_u8_s8c_u8_generic(const ShallowArgs& args) { shallow<Storage::kU8>(args); }

}  // namespace edgekit
