#include "kernels/shallow/shallow_arm_neon.h"

namespace edgekit {
namespace {

// Two pixels by 16 channels of int32 in 8 registers; two bytes of a pixel's window in all lanes,
// two bytes of 16 channels' weights in 2, the products of 8 channels in each of 4:
//
//   ld1r   x.8h, [window]          smull  p.8h, x.8b, w.8b      four channels, two taps each
//                                  smlal  p.8h, x.8b, w.8b      the next two taps
//                                  sadalp acc.4s, p.8h
constexpr size_t kKr = 2;
constexpr size_t kPixels = 2;

/// The products of 16 channels, two lanes each.
struct Products {
  int16x8_t v[4];
};

EDGEKIT_INLINE void multiply(Products& products, int8x16_t x, const int8x16_t (&w)[2]) {
  products = {{multiply_low(x, w[0]), multiply_high(x, w[0]), multiply_low(x, w[1]),
               multiply_high(x, w[1])}};
}

EDGEKIT_INLINE void add_multiply(Products& products, int8x16_t x, const int8x16_t (&w)[2]) {
  add_multiply_low(products.v[0], x, w[0]);
  add_multiply_high(products.v[1], x, w[0]);
  add_multiply_low(products.v[2], x, w[1]);
  add_multiply_high(products.v[3], x, w[1]);
}

/// Adds the products of a window's row, `size` bytes long, and moves w behind its weights.
struct Accumulate {
  template <size_t kCount>
  EDGEKIT_INLINE void operator()(int32x4_t (&acc)[kCount][4], const int8_t* row, size_t step,
                                 const int8_t*& w, size_t size) const {
    const int8_t* windows[kCount];
    EDGEKIT_UNROLL
    for (size_t p = 0; p < kCount; ++p) windows[p] = row + p * step;
    for (size_t b = 0; b < size; b += 2 * kKr) {
      Products products[kCount];
      int8x16_t weights[2];
      load_pair_next(w, weights);
      EDGEKIT_UNROLL
      for (size_t p = 0; p < kCount; ++p) {
        multiply(products[p], spread_next<kKr>(windows[p]), weights);
      }
      if (b + kKr < size) {
        load_pair_next(w, weights);
        EDGEKIT_UNROLL
        for (size_t p = 0; p < kCount; ++p) {
          add_multiply(products[p], spread_next<kKr>(windows[p]), weights);
        }
      }
      EDGEKIT_UNROLL
      for (size_t p = 0; p < kCount; ++p) {
        EDGEKIT_UNROLL
        for (size_t v = 0; v < 4; ++v) add_pairs(acc[p][v], products[p].v[v]);
      }
    }
  }
};

}  // namespace

void shallow_s8_s8c_s8_arm_neon(const ShallowArgs& args) {
  const size_t size = args.kernel_w * args.channels;
  run_shallow<kPixels>(args, (size + kKr - 1) / kKr * kKr, Accumulate{});
}

}  // namespace edgekit
