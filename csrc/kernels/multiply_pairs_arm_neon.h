#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"

// Tiles of four rows by 16 columns that take four k at a time, for sums of few products: every lane
// belongs to one column from the first product on, so nothing is left to add up in the end.
//
//   ld1r   x.8h, [row], 2            k and k + 1, again and again
//   smull  p.8h, x.8b, w.8b          four columns, two k each; smull2 for the next four
//   smlal  p.8h, x.8b, w.8b          the next two k
//   sadalp acc.4s, p.8h              widened: two products always fit int16
//
// Sums in 16 registers, x in 8, w in 4, products in 4. Trained weights rarely let a third product
// into all lanes: a test for it takes more than it saves.

namespace edgekit {
// Each file that includes this is compiled for its own instruction set: nothing here may be shared
// by the linker.
namespace {

/// Columns of a panel, and bytes of its weights for two k.
constexpr size_t kPairColumns = 16;
constexpr size_t kPairBytes = 2 * kPairColumns;

/// Adds the products of kSteps times two k, 1 or 2, to kRows rows by 4 * kGroups columns, and moves
/// rows and w behind them.
template <size_t kSteps, size_t kRows, size_t kGroups>
EDGEKIT_INLINE void multiply_steps(int32x4_t (&acc)[kRows][kGroups], const int8_t* (&rows)[kRows],
                                   const int8_t*& w) {
  int8x16_t columns[4];
  if constexpr (kSteps == 2) {
    load_four_next(w, columns);
  } else {
    load_pair_next(w, columns);
  }
  int8x16_t x[kRows][kSteps];
  EDGEKIT_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    EDGEKIT_UNROLL
    for (size_t s = 0; s < kSteps; ++s) x[r][s] = spread_next<2>(rows[r]);
  }
  EDGEKIT_UNROLL
  for (size_t g = 0; g < kGroups; ++g) {
    int16x8_t products[kRows];
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      products[r] = g % 2 == 0 ? multiply_low(x[r][0], columns[g / 2])
                               : multiply_high(x[r][0], columns[g / 2]);
    }
    if constexpr (kSteps == 2) {
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) {
        if (g % 2 == 0) {
          add_multiply_low(products[r], x[r][1], columns[2 + g / 2]);
        } else {
          add_multiply_high(products[r], x[r][1], columns[2 + g / 2]);
        }
      }
    }
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) add_pairs(acc[r][g], products[r]);
  }
}

/// Adds the products of `runs` runs of `steps` times two k to the sums of a tile. `find_rows(run,
/// rows)` says where a run of each row lies; w is the panel, `[runs][steps][16][2]`.
template <size_t kRows, size_t kGroups, class FindRows>
EDGEKIT_INLINE void multiply_runs(int32x4_t (&acc)[kRows][kGroups], const int8_t* w, size_t runs,
                                  size_t steps, FindRows find_rows) {
  for (size_t run = 0; run < runs; ++run) {
    const int8_t* rows[kRows];
    find_rows(run, rows);
    for (size_t left = steps / 2; left != 0; --left) multiply_steps<2>(acc, rows, w);
    if (steps % 2 != 0) multiply_steps<1>(acc, rows, w);
  }
}

}  // namespace
}  // namespace edgekit
