#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_arm_neon.h"
#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"
#include "kernels/store_fused_arm_neon.h"

// Rows, panels and taps of the NEON kernels for blocks of 16 columns by 4 of k. Tile::multiply()
// has the block's products, Tile::kFuses says whether it takes FusedRequantize; numbers and weights
// of a panel's blocks lie one behind the other, so that two pointers walk them through all taps.

namespace edgekit {
// Each file that includes this is compiled for its own instruction set: nothing here may be shared
// by the linker.
namespace {

constexpr size_t kNr = 16;
constexpr size_t kKr = 4;
// Bytes of a that one block of rows may fill, so that it stays in the first-level cache while all
// of w passes by.
constexpr size_t kBlockBytes = 16 * 1024;

/// Loads the number of the next block.
inline size_t next_step(const uint16_t*& steps) {
  size_t step = 0;
  asm volatile("ldrh %w0, [%1], #2" : "=r"(step), "+r"(steps) : "m"(*steps));
  return step;
}

/// What all tiles of a panel have in common.
struct SparsePanel {
  const GemmArgs& args;
  const NeonRequantize& requantize;
  size_t column;
  /// Of the panel's first tap.
  const uint32_t* starts;
};

/// How a tile is stored.
enum class Epilogue : uint8_t {
  kAny,           ///< asked for each tile
  kFused,         ///< codes by FusedRequantize, where saturating clamps
  kFusedClamped,  ///< codes by FusedRequantize
};

/// Computes rows [begin, end), a multiple of kRows, of the first `4 * kVectors` columns of a panel.
/// A function of its own, or g++ moves sums to the stack.
template <class Tile, size_t kRows, size_t kVectors, bool kPointers,
          Epilogue kEpilogue = Epilogue::kAny>
__attribute__((noinline)) void run_panel(const SparsePanel& panel, size_t begin, size_t end) {
  const GemmArgs& args = panel.args;
  const size_t taps = kPointers ? args.taps : 1;
  const uint32_t* starts = panel.starts;
  const uint16_t* first_step = args.block_steps + starts[0];
  const int8_t* first_w = args.w + size_t{starts[0]} * kNr * kKr;
  const bool direct = 4 * kVectors == kNr && panel.column + kNr <= args.n &&
                      args.output == Output::kCodes && panel.requantize.is_bounded();
  const bool fast = direct && panel.requantize.is_fast();
  const float32x4_t shift = panel.requantize.shift();
  constexpr bool kFused = kEpilogue != Epilogue::kAny;
  const FusedRequantize fused = kFused ? find_fused(args, panel.column) : FusedRequantize();
  const int32_t* bias = kFused ? fused.start : args.bias + panel.column;
  const float* scale = args.requantize.scale + panel.column;
  const size_t a_stride = args.a_stride;
  const uint8_t* a = args.a + begin * a_stride;
  const uint8_t* const* pointers = args.rows + begin * taps;
  const size_t y_stride = args.y_stride;
  uint8_t* y = static_cast<uint8_t*>(args.y) + begin * y_stride + panel.column;
  const size_t first_blocks = starts[1] - starts[0];
  for (size_t rows_left = end - begin; rows_left != 0; rows_left -= kRows) {
    int32x4_t acc[kRows][kVectors];
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      if constexpr (kVectors == 4) {
        load_four(bias, acc[r], r);
      } else {
        load_pair_at(bias, acc[r]);
      }
    }
    const uint16_t* steps = first_step;
    const int8_t* w = first_w;
    for (size_t tap = 0; tap < taps; ++tap) {
      const int8_t* rows[kRows];
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) {
        rows[r] = reinterpret_cast<const int8_t*>(kPointers ? pointers[r * taps + tap] : a);
        if (!kPointers) a += a_stride;
      }
      const size_t blocks = kPointers ? starts[tap + 1] - starts[tap] : first_blocks;
      for (size_t left = blocks / 2; left != 0; --left) {
        Tile::multiply(acc, rows, next_step(steps), w);
        Tile::multiply(acc, rows, next_step(steps), w);
      }
      if (blocks % 2 != 0) Tile::multiply(acc, rows, next_step(steps), w);
    }
    if (kPointers) pointers += kRows * taps;
    if constexpr (kFused) {
      constexpr bool kClamped = kEpilogue == Epilogue::kFusedClamped;
      store_fused_codes<kClamped>(acc, panel.requantize, fused, y, y_stride);
      continue;
    }
    if constexpr (4 * kVectors == kNr) {
      if (fast) {
        const Scales16 scales = load_scales(scale);
        EDGEKIT_UNROLL
        for (size_t r = 0; r < kRows; ++r) {
          store_next(y, NeonRequantize::fast_codes(acc[r], scales.v, shift), y_stride);
        }
        continue;
      }
      if (direct) {
        const Scales16 scales = load_scales(scale);
        EDGEKIT_UNROLL
        for (size_t r = 0; r < kRows; ++r) {
          const Sums16 sums = {{acc[r][0], acc[r][1], acc[r][2], acc[r][3]}};
          store_next(y, panel.requantize.bounded_codes(sums, scales), y_stride);
        }
        continue;
      }
    }
    int32_t sums[kRows * kNr];
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      EDGEKIT_UNROLL
      for (size_t v = 0; v < kVectors; ++v) vst1q_s32(sums + r * kNr + 4 * v, acc[r][v]);
    }
    store_rows_arm_neon(args, sums, kRows, end - rows_left, panel.column);
  }
}

/// Computes rows [begin, end), a multiple of Tile::kMr, of a panel. Fewer variants for pointers, so
/// that the program stays small: sums of few products are seldom those of several taps.
template <class Tile, bool kPointers>
void run_tiles(const SparsePanel& panel, size_t begin, size_t end) {
  if constexpr (!kPointers) {
    if (panel.args.n - panel.column <= kNr / 2) {
      return run_panel<Tile, Tile::kMr, 2, false>(panel, begin, end);
    }
  }
  if constexpr (!kPointers && Tile::kFuses) {
    if (find_fused(panel.args, panel.column).start != nullptr) {
      return panel.requantize.spans_bytes()
                 ? run_panel<Tile, Tile::kMr, 4, false, Epilogue::kFused>(panel, begin, end)
                 : run_panel<Tile, Tile::kMr, 4, false, Epilogue::kFusedClamped>(panel, begin, end);
    }
  }
  run_panel<Tile, Tile::kMr, 4, kPointers>(panel, begin, end);
}

/// Computes every panel.
template <class Tile, bool kPointers>
void run_panels(const GemmArgs& args) {
  const NeonRequantize requantize(args.requantize);
  const size_t tile_bytes = (args.taps * args.k + 1) * Tile::kMr;
  const size_t block = tile_bytes < kBlockBytes ? kBlockBytes / tile_bytes * Tile::kMr : Tile::kMr;
  for (size_t begin = 0; begin < args.m; begin += block) {
    const size_t end = args.m - begin < block ? args.m : begin + block;
    const size_t full = begin + (end - begin) / Tile::kMr * Tile::kMr;
    const uint32_t* starts = args.block_starts;
    for (size_t column = 0; column < args.n; column += kNr, starts += args.taps) {
      const SparsePanel panel = {args, requantize, column, starts};
      if (begin < full) run_tiles<Tile, kPointers>(panel, begin, full);
      if (full < end) run_panel<Tile, 1, 4, kPointers>(panel, full, end);
    }
  }
}

/// Computes a problem.
template <class Tile>
void run_sparse(const GemmArgs& args) {
  if (args.rows != nullptr) return run_panels<Tile, true>(args);
  run_panels<Tile, false>(args);
}

}  // namespace
}  // namespace edgekit
