#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_arm_neon.h"
#include "kernels/multiply_pairs_arm_neon.h"
#include "kernels/requantize_arm_neon.h"
#include "kernels/store_fused_arm_neon.h"

namespace edgekit {
namespace {

// Tiles of 4 rows by 16 columns, see multiply_pairs_arm_neon.h. For four k: 1 load of w, 8 that
// spread, 32 multiplications of 8 products each and 16 that widen.
constexpr size_t kMr = 4;
constexpr size_t kNr = kPairColumns;
constexpr size_t kKr = 2;
// Bytes of a that one block of rows may fill, so that it stays in the first-level cache while all
// of w passes by.
constexpr size_t kBlockBytes = 16 * 1024;

/// Computes rows [begin, end), a multiple of kRows, of the `4 * kGroups` columns from `column` on,
/// where a panel begins.
template <size_t kRows, size_t kGroups, bool kPointers>
void run_panel(const GemmArgs& args, const NeonRequantize& requantize, const int8_t* w,
               size_t begin, size_t end, size_t column) {
  const size_t taps = kPointers ? args.taps : 1;
  const size_t steps = (args.k + kKr - 1) / kKr;
  const bool full = 4 * kGroups == kNr && column + kNr <= args.n && args.output == Output::kCodes &&
                    requantize.is_bounded();
  const bool fast = requantize.is_fast();
  const float32x4_t shift = requantize.shift();
  constexpr bool kFuses = kRows == kMr && 4 * kGroups == kNr;
  const FusedRequantize fused = kFuses ? find_fused(args, column) : FusedRequantize();
  const int32_t* bias = fused.start != nullptr ? fused.start : args.bias + column;
  const float* scale = args.requantize.scale + column;
  const size_t a_stride = args.a_stride;
  const uint8_t* a = args.a + begin * a_stride;
  const uint8_t* const* pointers = args.rows + begin * taps;
  const size_t y_stride = args.y_stride;
  uint8_t* y = static_cast<uint8_t*>(args.y) + begin * y_stride + column;
  for (size_t row = begin; row < end; row += kRows) {
    int32x4_t acc[kRows][kGroups];
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      if constexpr (kGroups == 4) {
        load_four(bias, acc[r], r);
      } else {
        load_pair_at(bias, acc[r]);
      }
    }
    multiply_runs(acc, w, taps, steps, [&](size_t tap, const int8_t*(&rows)[kRows]) {
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r) {
        rows[r] = reinterpret_cast<const int8_t*>(kPointers ? pointers[r * taps + tap] : a);
        if (!kPointers) a += a_stride;
      }
    });
    if (kPointers) pointers += kRows * taps;
    if constexpr (kFuses) {
      if (fused.start != nullptr) {
        store_fused(acc, requantize, fused, y, y_stride);
        continue;
      }
    }
    if constexpr (4 * kGroups == kNr) {
      if (full) {
        const Scales16 scales = load_scales(scale);
        if (fast) {
          EDGEKIT_UNROLL
          for (size_t r = 0; r < kRows; ++r) {
            store_next(y, NeonRequantize::fast_codes(acc[r], scales.v, shift), y_stride);
          }
          continue;
        }
        EDGEKIT_UNROLL
        for (size_t r = 0; r < kRows; ++r) {
          const Sums16 sums = {{acc[r][0], acc[r][1], acc[r][2], acc[r][3]}};
          store_next(y, requantize.bounded_codes(sums, scales), y_stride);
        }
        continue;
      }
    }
    int32_t sums[kRows * kNr] = {};
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      EDGEKIT_UNROLL
      for (size_t g = 0; g < kGroups; ++g) vst1q_s32(sums + r * kNr + 4 * g, acc[r][g]);
    }
    store_rows_arm_neon(args, sums, kRows, row, column);
  }
}

/// Computes rows [begin, end) of a panel: in full tiles, then row by row.
template <size_t kGroups, bool kPointers>
void run_rows(const GemmArgs& args, const NeonRequantize& requantize, const int8_t* w, size_t begin,
              size_t end, size_t column) {
  const size_t full = begin + (end - begin) / kMr * kMr;
  if (begin < full) {
    run_panel<kMr, kGroups, kPointers>(args, requantize, w, begin, full, column);
  }
  if (full < end) run_panel<1, kGroups, kPointers>(args, requantize, w, full, end, column);
}

/// Computes every panel.
template <bool kPointers>
void run(const GemmArgs& args) {
  const NeonRequantize requantize(args.requantize);
  const size_t steps = (args.k + kKr - 1) / kKr;
  const size_t tile_bytes = (args.taps * args.k + 1) * kMr;
  const size_t block = tile_bytes < kBlockBytes ? kBlockBytes / tile_bytes * kMr : kMr;
  for (size_t begin = 0; begin < args.m; begin += block) {
    const size_t end = args.m - begin < block ? args.m : begin + block;
    const int8_t* w = args.w;
    for (size_t column = 0; column < args.n; column += kNr, w += args.taps * steps * kPairBytes) {
      if (args.n - column > kNr / 2) {
        run_rows<4, kPointers>(args, requantize, w, begin, end, column);
      } else {
        run_rows<2, kPointers>(args, requantize, w, begin, end, column);
      }
    }
  }
}

}  // namespace

void gemm_s8_s8c_s8_4x16c2_arm_neon(const GemmArgs& args) {
  if (args.rows != nullptr) return run<true>(args);
  run<false>(args);
}

}  // namespace edgekit
