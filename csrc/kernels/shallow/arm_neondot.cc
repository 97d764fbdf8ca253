#include "kernels/shallow/shallow_arm_neon.h"

namespace edgekit {
namespace {

// Four pixels by 16 channels of int32 in 16 registers; 16 bytes of each pixel's window in 4, four
// bytes of 16 channels' weights in 4:
//
//   ldr x.16b, [window]     sdot acc[p][v].4s, w[v].16b, x[p].4b[0 .. 3]
constexpr size_t kKr = 4;
constexpr size_t kPixels = 4;
constexpr size_t kLoaded = 16;

/// Adds the products of four channels' four bytes with the four bytes in lane `kLane` of x.
template <int kLane>
inline void dot(int32x4_t& acc, int8x16_t w, int8x16_t x) {
  asm volatile("sdot %0.4s, %1.16b, %2.4b[%3]" : "+w"(acc) : "w"(w), "w"(x), "i"(kLane));
}

/// Adds the products of lane `kLane` of each pixel's bytes, and moves w behind its weights.
template <int kLane, size_t kCount>
EDGEKIT_INLINE void multiply(int32x4_t (&acc)[kCount][4], const int8x16_t (&x)[kCount],
                             const int8_t*& w) {
  int8x16_t weights[4];
  load_pair_next(w, weights);
  load_pair_next(w, weights + 2);
  EDGEKIT_UNROLL
  for (size_t p = 0; p < kCount; ++p) {
    EDGEKIT_UNROLL
    for (size_t v = 0; v < 4; ++v) dot<kLane>(acc[p][v], weights[v], x[p]);
  }
}

/// Adds the products of whole windows, whose rows are `size` bytes long.
struct Accumulate {
  size_t size;

  template <size_t kCount, class FindRow>
  EDGEKIT_INLINE void operator()(int32x4_t (&acc)[kCount][4], FindRow find_row, size_t rows,
                                 size_t step, const int8_t* w) const {
    for (size_t r = 0; r < rows; ++r) {
      const int8_t* windows[kCount];
      windows[0] = find_row(r);
      EDGEKIT_UNROLL
      for (size_t p = 1; p < kCount; ++p) windows[p] = windows[0] + p * step;
      for (size_t left = size;; left -= kLoaded) {
        int8x16_t x[kCount];
        EDGEKIT_UNROLL
        for (size_t p = 0; p < kCount; ++p) x[p] = load_next(windows[p]);
        multiply<0>(acc, x, w);
        if (left > kKr) multiply<1>(acc, x, w);
        if (left > 2 * kKr) multiply<2>(acc, x, w);
        if (left > 3 * kKr) multiply<3>(acc, x, w);
        if (left <= kLoaded) break;
      }
    }
  }
};

}  // namespace

void shallow_s8_s8c_s8_arm_neondot(const ShallowArgs& args) {
  const size_t size = args.kernel_w * args.channels;
  run_shallow<kPixels>(args, (size + kKr - 1) / kKr * kKr,
                       [size](const int8_t*) { return Accumulate{size}; });
}

}  // namespace edgekit
