#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"

// FusedRequantize for tiles of 16 columns: 9 instructions for 16 codes.

namespace edgekit {
// Each file that includes this is compiled for its own instruction set: nothing here may be shared
// by the linker.
namespace {

/// Returns the constants of the 16 columns from `column` on; none where these are requantized
/// otherwise.
inline FusedRequantize find_fused(const GemmArgs& args, size_t column) {
  const FusedRequantize& all = args.requantize.fused;
  if (all.start == nullptr || args.output != Output::kCodes || column + 16 > args.n) return {};
  return {all.start + column, all.slope + column, all.shift + column};
}

/// Loads the least and the largest code, here, so that no register is taken by them before.
EDGEKIT_INLINE void load_bounds(const int8x16_t* from, int8x16_t (&to)[2]) {
  asm volatile("ldp %q0, %q1, [%2]"
               : "=w"(to[0]), "=w"(to[1])
               : "r"(from), "m"(*reinterpret_cast<const int8x16_t(*)[2]>(from)));
}

/// Turns four vectors, shift[c] on the way in, to R of FusedRequantize, here and not later.
EDGEKIT_INLINE void fuse_row(const int32x4_t (&acc)[4], const int32x4_t (&slope)[4],
                             int32x4_t (&r)[4]) {
  asm volatile(
      "fmla %0.4s, %4.4s, %8.4s\n\t"
      "fmla %1.4s, %5.4s, %9.4s\n\t"
      "fmla %2.4s, %6.4s, %10.4s\n\t"
      "fmla %3.4s, %7.4s, %11.4s"
      : "+w"(r[0]), "+w"(r[1]), "+w"(r[2]), "+w"(r[3])
      : "w"(acc[0]), "w"(acc[1]), "w"(acc[2]), "w"(acc[3]), "w"(slope[0]), "w"(slope[1]),
        "w"(slope[2]), "w"(slope[3]));
}

/// Stores the codes of a tile's rows, clamped where kClamped, and moves y behind them. load_four()
/// began their sums.
///
/// A multiply-add overwrites what it adds, so each row loads the shifts anew: into the registers of
/// the row before, whose sums are then done with. Each step of all rows comes before the next, for
/// processors that execute in order.
template <bool kClamped, size_t kRows>
EDGEKIT_INLINE void store_fused_codes(const int32x4_t (&acc)[kRows][4],
                                      const NeonRequantize& requantize,
                                      const FusedRequantize& fused, uint8_t*& y, size_t y_stride) {
  int32x4_t slopes[4];
  load_slopes(reinterpret_cast<const int32_t*>(fused.slope), slopes);
  const auto* shifts = reinterpret_cast<const int32_t*>(fused.shift);
  int32x4_t r[kRows][4];
  load_four(shifts, r[0], kNoRow);
  EDGEKIT_UNROLL
  for (size_t row = 0; row < kRows; ++row) {
    fuse_row(acc[row], slopes, r[row]);
    if (row + 1 < kRows) load_four(shifts, r[row + 1], row);
  }
  int8x16_t codes[kRows];
  int8x16_t bounds[2];
  if constexpr (kClamped) load_bounds(requantize.bounds(), bounds);
  EDGEKIT_UNROLL
  for (size_t row = 0; row < kRows; ++row) {
    codes[row] = NeonRequantize::fused_codes(r[row]);
    if constexpr (kClamped) codes[row] = vminq_s8(vmaxq_s8(codes[row], bounds[0]), bounds[1]);
  }
  EDGEKIT_UNROLL
  for (size_t row = 0; row < kRows; ++row) store_next(y, codes[row], y_stride);
}

/// The same, clamped as the layer is.
template <size_t kRows>
EDGEKIT_INLINE void store_fused(const int32x4_t (&acc)[kRows][4], const NeonRequantize& requantize,
                                const FusedRequantize& fused, uint8_t*& y, size_t y_stride) {
  if (requantize.spans_bytes()) {
    store_fused_codes<false>(acc, requantize, fused, y, y_stride);
  } else {
    store_fused_codes<true>(acc, requantize, fused, y, y_stride);
  }
}

}  // namespace
}  // namespace edgekit
