#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/sparse_gemm/tiles_arm_neon.h"

namespace edgekit {
namespace {

// Registers of a full tile: 6 rows by 16 columns of int32 in 24 of them, the block's weights in 4,
// and the block's 4 of k of a row, which lie anywhere along it:
//
//                w k 0..3 | columns 0..3   4..7   8..11   12..15
//   row 0, k 0..3          acc[0][0]     acc[0][1] ...   acc[0][3]   sdot acc[r][v].4s, w[v].16b,
//   ...                                                                   a.4b[0]
//   row 5, k 0..3          acc[5][0]        ...          acc[5][3]
//
// A block: 1 load of its number, 1 of w, 6 of a, 24 sdot.
struct DotTile {
  static constexpr size_t kMr = 6;
  static constexpr bool kFuses = true;

  /// Adds the products of the block w with the 4 of k of number `step`, and moves w behind it.
  template <size_t kRows, size_t kVectors>
  static EDGEKIT_INLINE void multiply(int32x4_t (&acc)[kRows][kVectors],
                                      const int8_t* const (&rows)[kRows], size_t step,
                                      const int8_t*& next_w) {
    int8x16_t w[4];
    if constexpr (kVectors == 4) {
      load_four_next(next_w, w);
    } else {
      load_pair_next<kNr * kKr>(next_w, w);
    }
    // Some rows ahead, for processors that execute in order.
    constexpr size_t kAhead = kRows < 2 ? kRows : 2;
    int8x16_t a[kAhead];
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kAhead; ++r) a[r] = load_four_of(rows[r], step);
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      EDGEKIT_UNROLL
      for (size_t v = 0; v < kVectors; ++v) {
        asm volatile("sdot %0.4s, %1.16b, %2.4b[0]"
                     : "+w"(acc[r][v])
                     : "w"(w[v]), "w"(a[r % kAhead]));
      }
      if (r + kAhead < kRows) a[r % kAhead] = load_four_of(rows[r + kAhead], step);
    }
  }

 private:
  /// Loads the 4 of k of number `step`, here and not later.
  static EDGEKIT_INLINE int8x16_t load_four_of(const int8_t* row, size_t step) {
    int8x16_t a;
    asm volatile("ldr %s0, [%1, %2, lsl #2]" : "=w"(a) : "r"(row), "r"(step) : "memory");
    return a;
  }
};

}  // namespace

void sparse_gemm_s8_s8c_s8_6x16c4_arm_neondot(const GemmArgs& args) { run_sparse<DotTile>(args); }

}  // namespace edgekit
