#include "kernels/multiply_pairs_arm_neon.h"
#include "kernels/shallow/shallow_arm_neon.h"

namespace edgekit {
namespace {

// Three pixels by 16 channels of int32 in 12 registers and their products of int16 in 12; two bytes
// of each pixel's window in all lanes of 3, two bytes of 16 channels' weights in 2. Products are
// added in int16 across the rows of a window, see multiply_pairs_arm_neon.h.
constexpr size_t kKr = 2;
constexpr size_t kPixels = 3;

/// Adds the products of whole windows.
struct Accumulate {
  PairChains chains;
  size_t steps;

  template <size_t kCount, class FindRow>
  EDGEKIT_INLINE void operator()(int32x4_t (&acc)[kCount][4], FindRow find_row, size_t rows,
                                 size_t step, const int8_t* w) const {
    PairTile<kCount, 4> tile;
    EDGEKIT_UNROLL
    for (size_t p = 0; p < kCount; ++p) {
      EDGEKIT_UNROLL
      for (size_t v = 0; v < 4; ++v) tile.acc[p][v] = acc[p][v];
    }
    multiply_runs(tile, chains, w, rows, steps, [&](size_t r, const int8_t*(&windows)[kCount]) {
      const int8_t* row = find_row(r);
      EDGEKIT_UNROLL
      for (size_t p = 0; p < kCount; ++p) windows[p] = row + p * step;
    });
    EDGEKIT_UNROLL
    for (size_t p = 0; p < kCount; ++p) {
      EDGEKIT_UNROLL
      for (size_t v = 0; v < 4; ++v) acc[p][v] = tile.acc[p][v];
    }
  }
};

}  // namespace

void shallow_s8_s8c_s8_arm_neon(const ShallowArgs& args) {
  const size_t steps = (args.kernel_w * args.channels + kKr - 1) / kKr;
  run_shallow<kPixels>(args, steps * kKr, [&](const int8_t* w) {
    return Accumulate{PairChains(w, args.kernel_h, steps), steps};
  });
}

}  // namespace edgekit
