#include "kernels/multiply_pairs_arm_neon.h"
#include "kernels/shallow/shallow_arm_neon.h"

namespace edgekit {
namespace {

// Four pixels by 16 channels, see multiply_pairs_arm_neon.h.
constexpr size_t kKr = 2;
constexpr size_t kPixels = 4;

/// Adds the products of whole windows.
struct Accumulate {
  size_t steps;

  template <size_t kCount, class FindRow>
  EDGEKIT_INLINE void operator()(int32x4_t (&acc)[kCount][4], FindRow find_row, size_t rows,
                                 size_t step, const int8_t* w) const {
    multiply_runs(acc, w, rows, steps, [&](size_t r, const int8_t*(&windows)[kCount]) {
      windows[0] = find_row(r);
      EDGEKIT_UNROLL
      for (size_t p = 1; p < kCount; ++p) windows[p] = windows[p - 1] + step;
    });
  }
};

}  // namespace

void shallow_s8_s8c_s8_arm_neon(const ShallowArgs& args) {
  const size_t steps = (args.kernel_w * args.channels + kKr - 1) / kKr;
  run_shallow<kPixels>(args, steps * kKr, [steps](const int8_t*) { return Accumulate{steps}; });
}

}  // namespace edgekit
