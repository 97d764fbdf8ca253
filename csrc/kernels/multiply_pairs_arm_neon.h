#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"

// Tiles of a few rows by 16 columns that take two k at a time, for sums of few products: every lane
// belongs to one column from the first product on, so nothing is left to add up in the end.
//
//   ld1r   x.8h, [row], 2            k and k + 1, again and again
//   smull  p.8h, x.8b, w.8b          four columns, two k each; smull2 for the next four
//   smlal  p.8h, x.8b, w.8b          the next two k, and on while the sums fit int16
//   sadalp acc.4s, p.8h              then widened
//
// Products of weights whose magnitudes add up to 255 fit, since 128 * 255 = 32640; two always do.

namespace edgekit {
// Each file that includes this is compiled for its own instruction set: nothing here may be shared
// by the linker.
namespace {

/// Columns of a panel, and bytes of its weights for two k.
constexpr size_t kPairColumns = 16;
constexpr size_t kPairBytes = 2 * kPairColumns;

/// Says where the products of a panel `[runs][steps][16][2]` have to be widened: a word for each
/// run, whose bit i is set where that has to come before steps 2 * i and 2 * i + 1. Of many runs,
/// or long ones, it comes before every other step.
class PairChains {
 public:
  PairChains(const int8_t* w, size_t runs, size_t steps) {
    if (runs > kMostRuns || (steps + 1) / 2 > kMostBits) {
      words_[0] = -1;
      return;
    }
    word_step_ = 1;
    uint8x16_t sums[2] = {vdupq_n_u8(0), vdupq_n_u8(0)};
    for (size_t run = 0; run < runs; ++run) {
      words_[run] = 0;
      for (size_t step = 0, bit = 0; step < steps; step += 2, ++bit) {
        const size_t count = step + 1 < steps ? 2 : 1;
        words_[run] |= static_cast<int32_t>(!add(sums, w, count)) << bit;
        w += count * kPairBytes;
      }
    }
  }

  /// Returns the first run's word.
  const int32_t* words() const { return words_; }

  /// Returns how far apart the words of runs are.
  size_t word_step() const { return word_step_; }

 private:
  static constexpr size_t kMostRuns = 32;
  static constexpr size_t kMostBits = 31;

  /// Adds the magnitudes of one or two steps and returns true where they fit, or begins with them.
  static bool add(uint8x16_t (&sums)[2], const int8_t* w, size_t count) {
    uint8x16_t added[2];
    uint8x16_t over = vdupq_n_u8(0);
    for (size_t i = 0; i < 2; ++i) {
      added[i] = vreinterpretq_u8_s8(vabsq_s8(vld1q_s8(w + 16 * i)));
      if (count == 2) {
        const int8x16_t second = vld1q_s8(w + kPairBytes + 16 * i);
        added[i] = vaddq_u8(added[i], vreinterpretq_u8_s8(vabsq_s8(second)));
      }
      over = vorrq_u8(over, vcgtq_u8(added[i], vmvnq_u8(sums[i])));
    }
    const bool fits = vmaxvq_u8(over) == 0;
    for (size_t i = 0; i < 2; ++i) sums[i] = fits ? vaddq_u8(sums[i], added[i]) : added[i];
    return fits;
  }

  size_t word_step_ = 0;
  int32_t words_[kMostRuns];
};

/// The sums of kRows rows by 4 * kGroups columns, and products that are still to be widened.
template <size_t kRows, size_t kGroups>
struct PairTile {
  int32x4_t acc[kRows][kGroups];
  int16x8_t products[kRows][kGroups];
};

template <size_t kRows, size_t kGroups>
EDGEKIT_INLINE void widen(PairTile<kRows, kGroups>& tile) {
  EDGEKIT_UNROLL
  for (size_t g = 0; g < kGroups; ++g) {
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) add_pairs(tile.acc[r][g], tile.products[r][g]);
  }
}

/// Multiplies two k of each row, and moves rows and w behind them. Begins new products where
/// kStart.
template <bool kStart, size_t kRows, size_t kGroups>
EDGEKIT_INLINE void multiply_step(PairTile<kRows, kGroups>& tile, const int8_t* (&rows)[kRows],
                                  const int8_t*& w) {
  int8x16_t columns[2];
  if constexpr (kGroups == 4) {
    load_pair_next(w, columns);
  } else {
    columns[0] = load_next<kPairBytes>(w);
  }
  int8x16_t x[kRows];
  EDGEKIT_UNROLL
  for (size_t r = 0; r < kRows; ++r) x[r] = spread_next<2>(rows[r]);
  EDGEKIT_UNROLL
  for (size_t v = 0; v < kGroups / 2; ++v) {
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      if constexpr (kStart) {
        tile.products[r][2 * v] = multiply_low(x[r], columns[v]);
      } else {
        add_multiply_low(tile.products[r][2 * v], x[r], columns[v]);
      }
    }
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      if constexpr (kStart) {
        tile.products[r][2 * v + 1] = multiply_high(x[r], columns[v]);
      } else {
        add_multiply_high(tile.products[r][2 * v + 1], x[r], columns[v]);
      }
    }
  }
}

/// Multiplies one or two steps, behind widening where `wide`: mostly, in trained layers.
template <size_t kSteps, size_t kRows, size_t kGroups>
EDGEKIT_INLINE void multiply_steps(PairTile<kRows, kGroups>& tile, const int8_t* (&rows)[kRows],
                                   const int8_t*& w, bool wide) {
  if (__builtin_expect(static_cast<int64_t>(wide), 1) != 0) {
    widen(tile);
    multiply_step<true>(tile, rows, w);
  } else {
    multiply_step<false>(tile, rows, w);
  }
  if constexpr (kSteps == 2) multiply_step<false>(tile, rows, w);
}

/// Adds the products of `runs` runs of `steps` times two k to the tile's sums. `find_rows(run,
/// rows)` says where a run of each row lies; w is the panel that `chains` is of.
template <size_t kRows, size_t kGroups, class FindRows>
EDGEKIT_INLINE void multiply_runs(PairTile<kRows, kGroups>& tile, const PairChains& chains,
                                  const int8_t* w, size_t runs, size_t steps, FindRows find_rows) {
  if (runs == 0 || steps == 0) return;
  const int8_t* rows[kRows];
  size_t run = 0;
  find_rows(run, rows);
  multiply_step<true>(tile, rows, w);
  if (steps > 1) multiply_step<false>(tile, rows, w);
  const int32_t* word = chains.words();
  int32_t bits = *word >> 1;
  size_t doubles = steps > 1 ? steps / 2 - 1 : 0;
  bool odd = steps > 1 && steps % 2 != 0;
  for (;;) {
    for (; doubles != 0; --doubles, bits >>= 1) multiply_steps<2>(tile, rows, w, (bits & 1) != 0);
    if (odd) multiply_steps<1>(tile, rows, w, (bits & 1) != 0);
    if (++run == runs) break;
    find_rows(run, rows);
    doubles = steps / 2;
    odd = steps % 2 != 0;
    word += chains.word_step();
    bits = *word;
  }
  widen(tile);
}

}  // namespace
}  // namespace edgekit
