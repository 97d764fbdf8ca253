#include "kernels/shallow/shallow_arm_neon.h"

namespace edgekit {
namespace {

// Four pixels by 16 channels of int32 in 16 registers; four bytes of each pixel's window in all
// lanes of 4, four bytes of 16 channels' weights in 4:
//
//   ld1r x.4s, [window]     sdot acc[p][v].4s, x[p].16b, w[v].16b
constexpr size_t kKr = 4;
constexpr size_t kPixels = 4;

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
      for (size_t b = 0; b < size; b += kKr) {
        int8x16_t weights[4];
        load_pair_next(w, weights);
        load_pair_next(w, weights + 2);
        EDGEKIT_UNROLL
        for (size_t p = 0; p < kCount; ++p) {
          const int8x16_t x = spread_next<kKr>(windows[p]);
          EDGEKIT_UNROLL
          for (size_t v = 0; v < 4; ++v) acc[p][v] = vdotq_s32(acc[p][v], x, weights[v]);
        }
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
