#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_x86_avx2.h"
#include "kernels/gemm/tile_x86_avx2.h"
#include "kernels/requantize_x86_avx2.h"

// What the sparse kernels with 256-bit registers share: panels of 16 columns, whose blocks are 4 of
// k, tile by tile of a few rows. A kernel is a type of
//
//   kRows                          rows of a full tile
//   Sums<rows>                     accumulators of that many rows
//   add(a, k, w, &sums)            the products of a block's weights and each row's bytes from k on
//   finish(sums, &acc[rows][2])    two registers of 8 columns a row
//
// Rows are taken as many at a time as stay in the nearest cache, while all panels pass by: each
// panel reads other parts of them. Everything is in an anonymous namespace, so that no code built
// for this instruction set is shared with the rest of the program.

namespace edgekit {
namespace {

constexpr size_t kKr = 4;
constexpr size_t kBlockBytes = kPairColumns * kKr;

/// Bytes of rows that are taken at a time: half of the nearest cache.
constexpr size_t kRowBytes = 16 * 1024;

inline __m256i load32(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

/// Four bytes of a row in every lane of 32 bits.
inline __m256i broadcast(const uint8_t* a) {
  int32_t bytes = 0;
  std::memcpy(&bytes, a, sizeof(bytes));
  return _mm256_set1_epi32(bytes);
}

struct Call {
  const GemmArgs& args;
  PairEpilogue epilogue;
  RequantizePairs constants;
};

/// The blocks of a panel and tap.
struct List {
  const uint16_t* step;
  const uint16_t* end;
  const int8_t* w;

  __attribute__((always_inline)) List(const GemmArgs& args, const uint32_t* starts)
      : step(args.block_steps + starts[0]),
        end(args.block_steps + starts[1]),
        w(args.w + starts[0] * kBlockBytes) {}
};

/// Adds the products of a list and rows.
template <class Kernel, int kRows>
__attribute__((always_inline)) inline void multiply_list(
    List list, const uint8_t* const (&rows)[kRows], typename Kernel::template Sums<kRows>& sums) {
  for (; list.step != list.end; ++list.step, list.w += kBlockBytes) {
    Kernel::template add<kRows>(rows, *list.step * kKr, list.w, sums);
  }
}

/// Sums of one row in four chains, which hide the latency of a multiply. GCC 12 would keep an array
/// of them in memory.
template <class Kernel>
struct Chains {
  using Sums = typename Kernel::template Sums<1>;

  Sums first;
  Sums second;
  Sums third;
  Sums fourth;

  /// Adds the products of a list and a row.
  __attribute__((always_inline)) void multiply(List list, const uint8_t* row) {
    const uint8_t* const rows[1] = {row};
    for (; list.end - list.step >= 4; list.step += 4, list.w += 4 * kBlockBytes) {
      Kernel::template add<1>(rows, list.step[0] * kKr, list.w, first);
      Kernel::template add<1>(rows, list.step[1] * kKr, list.w + kBlockBytes, second);
      Kernel::template add<1>(rows, list.step[2] * kKr, list.w + 2 * kBlockBytes, third);
      Kernel::template add<1>(rows, list.step[3] * kKr, list.w + 3 * kBlockBytes, fourth);
    }
    multiply_list<Kernel, 1>(list, rows, first);
  }

  __attribute__((always_inline)) void finish(__m256i (&acc)[1][2]) const {
    __m256i more[3][1][2];
    Kernel::template finish<1>(first, acc);
    Kernel::template finish<1>(second, more[0]);
    Kernel::template finish<1>(third, more[1]);
    Kernel::template finish<1>(fourth, more[2]);
#pragma GCC unroll 2
    for (int p = 0; p < 2; ++p) {
      const __m256i half = _mm256_add_epi32(more[1][0][p], more[2][0][p]);
      acc[0][p] = _mm256_add_epi32(_mm256_add_epi32(acc[0][p], more[0][0][p]), half);
    }
  }
};

/// Stores rows of sums by way of memory.
template <int kRows>
__attribute__((noinline)) void store_rows(const Call& call, size_t row, size_t column,
                                          const __m256i* acc_s32x8) {
  for (size_t i = 0; i < kRows; ++i, acc_s32x8 += 2) {
    store_row(call.args, row + i, column, acc_s32x8[0], acc_s32x8[1]);
  }
}

/// Adds the bias to a tile.
template <int kRows>
__attribute__((always_inline)) inline void add_bias(const int32_t* bias, __m256i (&acc)[kRows][2]) {
  const __m256i low = load32(bias);
  const __m256i high = load32(bias + 8);
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    acc[i][0] = _mm256_add_epi32(acc[i][0], low);
    acc[i][1] = _mm256_add_epi32(acc[i][1], high);
  }
}

/// Adds the bias to a tile and stores it.
template <int kRows>
__attribute__((always_inline)) inline void finish_tile(const Call& call, size_t row, size_t column,
                                                       __m256i (&acc)[kRows][2]) {
  const GemmArgs& args = call.args;
  add_bias<kRows>(args.bias + column, acc);
  uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_stride + column;
  const bool whole = args.n - column >= kPairColumns;
  if (whole && call.epilogue == PairEpilogue::kProducts) {
    store_tile<PairEpilogue::kProducts, kRows, 1>(args, call.constants, row, column, y,
                                                  args.y_stride, acc);
  } else if (whole && call.epilogue == PairEpilogue::kResidualSums) {
    store_tile<PairEpilogue::kResidualSums, kRows, 1>(args, call.constants, row, column, y,
                                                      args.y_stride, acc);
  } else {
    store_rows<kRows>(call, row, column, acc[0]);
  }
}

/// Computes `tiles` full tiles of a whole panel from `row` on, without row pointers. What they read
/// and write is counted on: read again, it would wait for the addresses of the stores before, and
/// the next tile with it.
template <class Kernel, PairEpilogue kEpilogue>
__attribute__((noinline)) void run_full_tiles(const Call& call, size_t row, size_t tiles,
                                              size_t panel) {
  constexpr int kRows = Kernel::kRows;
  const GemmArgs& args = call.args;
  const size_t column = panel * kPairColumns;
  const List list(args, args.block_starts + panel);
  const int32_t* const bias = args.bias + column;
  const size_t a_stride = args.a_stride;
  const size_t y_stride = args.y_stride;
  const uint8_t* a = args.a + row * a_stride;
  uint8_t* y = static_cast<uint8_t*>(args.y) + row * y_stride + column;
  for (; tiles != 0; --tiles, row += kRows) {
    const uint8_t* rows[kRows];
    rows[0] = a;
#pragma GCC unroll 8
    for (int i = 1; i < kRows; ++i) rows[i] = rows[i - 1] + a_stride;
    typename Kernel::template Sums<kRows> sums;
    multiply_list<Kernel, kRows>(list, rows, sums);
    __m256i acc[kRows][2];
    Kernel::template finish<kRows>(sums, acc);
    add_bias<kRows>(bias, acc);
    store_tile<kEpilogue, kRows, 1>(args, call.constants, row, column, y, y_stride, acc);
    a += kRows * a_stride;
    y += kRows * y_stride;
  }
}

/// Computes kRows rows from `row` on of panel `panel`.
template <class Kernel, int kRows>
__attribute__((noinline)) void run_tile(const Call& call, size_t row, size_t panel) {
  const GemmArgs& args = call.args;
  const uint32_t* starts = args.block_starts + panel * args.taps;
  typename Kernel::template Sums<kRows> sums;
  for (size_t t = 0; t < args.taps; ++t) {
    const uint8_t* rows[kRows];
#pragma GCC unroll 8
    for (size_t i = 0; i < kRows; ++i) {
      rows[i] =
          args.rows ? args.rows[(row + i) * args.taps + t] : args.a + (row + i) * args.a_stride;
    }
    multiply_list<Kernel, kRows>(List(args, starts + t), rows, sums);
  }
  __m256i acc[kRows][2];
  Kernel::template finish<kRows>(sums, acc);
  finish_tile<kRows>(call, row, panel * kPairColumns, acc);
}

/// Computes one row of panel `panel`.
template <class Kernel>
__attribute__((noinline)) void run_row(const Call& call, size_t row, size_t panel) {
  const GemmArgs& args = call.args;
  const uint32_t* starts = args.block_starts + panel * args.taps;
  Chains<Kernel> chains;
  for (size_t t = 0; t < args.taps; ++t) {
    const uint8_t* a = args.rows ? args.rows[row * args.taps + t] : args.a + row * args.a_stride;
    chains.multiply(List(args, starts + t), a);
  }
  __m256i acc[1][2];
  chains.finish(acc);
  finish_tile<1>(call, row, panel * kPairColumns, acc);
}

/// Computes rows [row, end) of a panel: full tiles, then smaller ones, which may overlap those
/// before.
template <class Kernel>
void run_panel(const Call& call, size_t row, size_t end, size_t panel) {
  constexpr size_t kFull = Kernel::kRows;
  const bool whole = call.args.n - panel * kPairColumns >= kPairColumns;
  if (whole && call.args.rows == nullptr && call.epilogue != PairEpilogue::kOther) {
    const size_t tiles = (end - row) / kFull;
    if (call.epilogue == PairEpilogue::kProducts) {
      run_full_tiles<Kernel, PairEpilogue::kProducts>(call, row, tiles, panel);
    } else {
      run_full_tiles<Kernel, PairEpilogue::kResidualSums>(call, row, tiles, panel);
    }
    row += tiles * kFull;
  }
  while (row < end) {
    const size_t rest = end - row;
    if (rest >= kFull || (rest > kFull / 2 && end >= kFull)) {
      run_tile<Kernel, kFull>(call, rest >= kFull ? row : end - kFull, panel);
      row += kFull;
    } else if (rest >= 2) {
      run_tile<Kernel, 2>(call, row, panel);
      row += 2;
    } else {
      run_row<Kernel>(call, row, panel);
      row += 1;
    }
  }
}

template <class Kernel>
void run_sparse(const GemmArgs& args) {
  const Call call{args, find_epilogue(args), find_requantize_pairs(args.requantize)};
  const size_t tile_bytes = Kernel::kRows * (args.taps * args.k + 1);
  const size_t tiles = tile_bytes > kRowBytes ? 1 : kRowBytes / tile_bytes;
  const size_t together = Kernel::kRows * tiles;
  for (size_t row = 0; row < args.m;) {
    // What would be left over joins the last rows.
    const size_t end = args.m - row < together + Kernel::kRows ? args.m : row + together;
    for (size_t panel = 0; panel * kPairColumns < args.n; ++panel) {
      run_panel<Kernel>(call, row, end, panel);
    }
    row = end;
  }
}

}  // namespace
}  // namespace edgekit
