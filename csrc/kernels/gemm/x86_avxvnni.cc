#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_x86_avx2.h"
#include "kernels/gemm/tile_x86_avx2.h"
#include "kernels/requantize_x86_avx2.h"

// 6 rows by one panel of 16 columns; a step takes 4 of k:
//
//                 b0      b1        32 bytes each: 8 columns
//   row 0   a0    acc00   acc01     a: 4 bytes, broadcast from memory
//   ...
//   row 5   a5    acc50   acc51
//
// 12 accumulators, 2 of b and 1 of a are 15 of the 16 registers. A panel stays in the first-level
// cache while all rows pass by. Rows left over overlap the tile before, or take tiles of 4, 2 and 1
// rows by 1, 2 and 4 panels, since it takes 8 accumulators to hide the latency of a multiply. k
// left over meets zero weights.
//
// Of weights of 4 bits, a step takes 8 of k: first the lower halves of b, then the upper ones, each
// as the upper half of a byte. So sums are 16 times what they stand for until a tile is complete.

namespace edgekit {
namespace {

constexpr size_t kPanel = 16;
constexpr size_t kKr = 4;
constexpr size_t kStepBytes = kPanel * kKr;
constexpr size_t kMr = 6;
constexpr size_t kLine = 64;

size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/// acc[c] += sum over 4 of a (u8) * b (s8), in the encoding that needs no AVX-512.
inline void dot(__m256i& acc_s32x8, __m256i a_u8x32, __m256i b_s8x32) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc_s32x8) : "x"(a_u8x32), "x"(b_s8x32));
}

inline __m256i load32(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

/// Four bytes of a row in every lane.
inline __m256i broadcast(const uint8_t* a) {
  int32_t bytes = 0;
  std::memcpy(&bytes, a, sizeof(bytes));
  return _mm256_set1_epi32(bytes);
}

/// What all tiles of a call share.
struct Call {
  const GemmArgs& args;
  size_t steps;
  size_t panels;
  size_t panel_bytes;
  PairEpilogue epilogue;
  RequantizePairs requantize;
};

/// Stores `rows` rows of accumulators of the panels from `panel` on, however args.output wants
/// them.
__attribute__((noinline)) void store_accumulators(const Call& call, size_t row, size_t rows,
                                                  size_t panel, size_t panels,
                                                  const __m256i* acc_s32x8) {
  for (size_t i = 0; i < rows; ++i) {
    for (size_t p = panel; p < panel + panels; ++p, acc_s32x8 += 2) {
      store_row(call.args, row + i, p * kPanel, acc_s32x8[0], acc_s32x8[1]);
    }
  }
}

/// Starts every row with the bias.
template <int kBits, int kRows, int kVectors>
__attribute__((always_inline)) inline void load_bias(const int32_t* bias,
                                                     __m256i (&acc)[kRows][kVectors]) {
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) {
    acc[0][v] = _mm256_slli_epi32(load32(bias + 8 * static_cast<size_t>(v)), 8 - kBits);
#pragma GCC unroll 8
    for (int i = 1; i < kRows; ++i) acc[i][v] = acc[0][v];
  }
}

/// Bytes of a panel that a step takes, each with the weights that kPart says.
enum class Part : uint8_t { kBytes, kLowerHalves, kUpperHalves };

alignas(32) constexpr uint8_t kUpperHalves[32] = {
    0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0,
    0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0, 0xF0};

/// Returns weights in [-127, 127], or 16 times those in [-8, 7]. Where kCrowded, every register
/// holds something else: with intrinsics, GCC 12 keeps accumulators on the stack.
template <Part kPart, bool kCrowded>
__attribute__((always_inline)) inline __m256i load_weights(const int8_t* w) {
  __m256i weights;
  if constexpr (kPart == Part::kBytes) {
    weights = load32(w);
  } else if constexpr (!kCrowded) {
    const __m256i upper = _mm256_set1_epi8(static_cast<int8_t>(0xF0));
    const __m256i bytes = load32(w);
    weights = kPart == Part::kUpperHalves ? _mm256_and_si256(bytes, upper)
                                          : _mm256_and_si256(_mm256_slli_epi16(bytes, 4), upper);
  } else if constexpr (kPart == Part::kLowerHalves) {
    __asm__("vmovdqu %1, %0\n\tvpsllw $4, %0, %0\n\tvpand %2, %0, %0"
            : "=&x"(weights)
            : "m"(*reinterpret_cast<const int8_t (*)[32]>(w)), "m"(kUpperHalves));
  } else {
    __asm__("vmovdqa %2, %0\n\tvpand %1, %0, %0"
            : "=&x"(weights)
            : "m"(*reinterpret_cast<const int8_t (*)[32]>(w)), "m"(kUpperHalves));
  }
  return weights;
}

/// Adds the products of 4 of k of every row, from byte `k` on.
template <Part kPart, int kRows, int kVectors>
__attribute__((always_inline)) inline void multiply_part(__m256i (&acc)[kRows][kVectors],
                                                         const uint8_t* const (&rows)[kRows],
                                                         size_t k, const int8_t* w,
                                                         size_t panel_bytes) {
  const auto load_vector = [&](int v) __attribute__((always_inline)) {
    const int8_t* from = w + static_cast<size_t>(v) / 2 * panel_bytes;
    return load_weights<kPart, (kRows > 4)>(from + static_cast<size_t>(v % 2) * 32);
  };
  if constexpr (kRows == 1) {
    // Each weight is used once: many at a time would leave no register for a mask.
    const __m256i a_0 = broadcast(rows[0] + k);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) dot(acc[0][v], a_0, load_vector(v));
    return;
  }
  __m256i b[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) b[v] = load_vector(v);
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
    const __m256i a_i = broadcast(rows[i] + k);
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) dot(acc[i][v], a_i, b[v]);
  }
}

/// One step, of depth_of_step<kBits>() of k of every row, from byte `k` on.
template <int kBits, int kRows, int kVectors>
__attribute__((always_inline)) inline void multiply(__m256i (&acc)[kRows][kVectors],
                                                    const uint8_t* const (&rows)[kRows], size_t k,
                                                    const int8_t* w, size_t panel_bytes) {
  if constexpr (kBits == 8) {
    multiply_part<Part::kBytes>(acc, rows, k, w, panel_bytes);
  } else {
    multiply_part<Part::kLowerHalves>(acc, rows, k, w, panel_bytes);
    multiply_part<Part::kUpperHalves>(acc, rows, k + kKr, w, panel_bytes);
  }
}

template <int kBits>
constexpr size_t depth_of_step() {
  return kKr * 8 / kBits;
}

/// Makes sums of what steps have added up.
template <int kBits, int kRows, int kVectors>
__attribute__((always_inline)) inline void finish_sums(__m256i (&acc)[kRows][kVectors]) {
#pragma GCC unroll 8
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) acc[i][v] = _mm256_srai_epi32(acc[i][v], 8 - kBits);
  }
}

/// Computes rows [row, row + kRows) of the panels from `panel` on; row i of tap t lies at
/// `a[i * taps + t]`.
template <int kBits, int kRows, int kPanels>
__attribute__((noinline)) void tile(const Call& call, const uint8_t* const* a, size_t row,
                                    size_t panel) {
  constexpr int kVectors = 2 * kPanels;
  const GemmArgs& args = call.args;
  const size_t column = panel * kPanel;
  constexpr size_t kStep = depth_of_step<kBits>();
  const size_t depth = call.steps * kStep;
  __m256i acc[kRows][kVectors];
  load_bias<kBits>(args.bias + column, acc);

  const int8_t* w = args.w + panel * call.panel_bytes;
  const size_t taps = args.taps;
  for (size_t t = 0; t < taps; ++t, ++a) {
    const uint8_t* rows[kRows];
    const uint8_t* const* next = a;
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i, next += taps) rows[i] = *next;
    for (size_t k = 0; k < depth; k += kStep, w += kStepBytes) {
      multiply<kBits>(acc, rows, k, w, call.panel_bytes);
    }
  }
  finish_sums<kBits>(acc);

  uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_stride + column;
  const bool whole = args.n - column >= kPanels * kPanel;
  if (whole && call.epilogue == PairEpilogue::kProducts) {
    store_tile<PairEpilogue::kProducts, kRows, kPanels>(args, call.requantize, row, column, y,
                                                        args.y_stride, acc);
  } else if (whole && call.epilogue == PairEpilogue::kResidualSums) {
    store_tile<PairEpilogue::kResidualSums, kRows, kPanels>(args, call.requantize, row, column, y,
                                                            args.y_stride, acc);
  } else {
    __m256i sums[kRows][kVectors];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sums[i][v] = acc[i][v];
    }
    store_accumulators(call, row, kRows, panel, kPanels, sums[0]);
  }
}

/// Computes the tile at `row` and `panel`.
template <int kBits, int kRows, int kPanels>
void run_tile(const Call& call, size_t row, size_t panel) {
  const GemmArgs& args = call.args;
  const uint8_t* strided[kRows];
  const uint8_t* const* a = strided;
  if (args.rows != nullptr) {
    a = args.rows + row * args.taps;
  } else {
    for (int i = 0; i < kRows; ++i) {
      strided[i] = args.a + (row + static_cast<size_t>(i)) * args.a_stride;
    }
  }
  tile<kBits, kRows, kPanels>(call, a, row, panel);
}

/// Returns the bytes of the next panel that each of `tiles` tiles fetches into the second-level
/// cache: in a network weights come from further away, and the panel's first tile would wait for
/// them. A few tiles would fetch so much at a time that they wait themselves: they fetch nothing.
size_t share_of(size_t panel_bytes, size_t tiles) {
  constexpr size_t kLeastTiles = 8;
  const size_t lines = panel_bytes / kLine;
  return tiles < kLeastTiles ? 0 : (lines + tiles - 1) / tiles * kLine;
}

/// Computes the first `tiles` tiles of 6 rows of a whole panel, without row pointers. What they
/// read and write is counted on: read again, it would wait for the addresses of the stores before,
/// and the next tile with it.
template <int kBits, PairEpilogue kEpilogue>
__attribute__((noinline)) void run_panel(const Call& call, size_t panel, size_t tiles) {
  const GemmArgs& args = call.args;
  const size_t column = panel * kPanel;
  const int8_t* const begin = args.w + panel * call.panel_bytes;
  const int8_t* const end = begin + call.steps * kStepBytes;
  const int32_t* bias = args.bias + column;
  const uint8_t* a = args.a;
  const size_t a_stride = args.a_stride;
  uint8_t* y = static_cast<uint8_t*>(args.y) + column;
  const size_t y_stride = args.y_stride;
  const int8_t* next = end;
  const size_t share = share_of(call.panel_bytes, tiles);
  const int8_t* const next_end = panel + 1 < call.panels ? end + call.panel_bytes : end;
  for (size_t row = 0; tiles != 0; --tiles, row += kMr) {
    const int8_t* const stop = next + min_size(share, static_cast<size_t>(next_end - next));
    for (; next != stop; next += kLine) _mm_prefetch(next, _MM_HINT_T1);
    const uint8_t* rows[kMr];
    rows[0] = a;
#pragma GCC unroll 8
    for (size_t i = 1; i < kMr; ++i) rows[i] = rows[i - 1] + a_stride;
    __m256i acc[kMr][2];
    load_bias<kBits>(bias, acc);
    size_t k = 0;
    for (const int8_t* w = begin; w != end; w += kStepBytes, k += depth_of_step<kBits>()) {
      multiply<kBits>(acc, rows, k, w, 0);
    }
    finish_sums<kBits>(acc);
    store_tile<kEpilogue, kMr, 1>(args, call.requantize, row, column, y, y_stride, acc);
    a += kMr * a_stride;
    y += kMr * y_stride;
  }
}

/// Covers all rows of a panel but those that are left over by tiles of 6.
template <int kBits>
void run_full_tiles(const Call& call, size_t panel) {
  const GemmArgs& args = call.args;
  const size_t tiles = args.m / kMr;
  const bool whole = args.n - panel * kPanel >= kPanel;
  if (tiles != 0 && whole && args.rows == nullptr && call.epilogue == PairEpilogue::kProducts) {
    run_panel<kBits, PairEpilogue::kProducts>(call, panel, tiles);
  } else if (tiles != 0 && whole && args.rows == nullptr &&
             call.epilogue == PairEpilogue::kResidualSums) {
    run_panel<kBits, PairEpilogue::kResidualSums>(call, panel, tiles);
  } else {
    for (size_t r = 0; r < tiles * kMr; r += kMr) run_tile<kBits, kMr, 1>(call, r, panel);
  }
}

/// Covers all columns of kRows rows.
template <int kBits, int kRows, int kPanels>
void run_rows(const Call& call, size_t row) {
  size_t panel = 0;
  for (; panel + kPanels <= call.panels; panel += kPanels) {
    run_tile<kBits, kRows, kPanels>(call, row, panel);
  }
  for (; panel < call.panels; ++panel) run_tile<kBits, kRows, 1>(call, row, panel);
}

template <int kBits>
void gemm(const GemmArgs& args) {
  const size_t m = args.m;
  const size_t steps = (args.k + depth_of_step<kBits>() - 1) / depth_of_step<kBits>();
  const Call call{args,
                  steps,
                  (args.n + kPanel - 1) / kPanel,
                  args.taps * steps * kStepBytes,
                  find_epilogue(args),
                  find_requantize_pairs(args.requantize)};

  const bool overlap = m % kMr > 4 && m > kMr;
  size_t row = m - m % kMr;
  for (size_t panel = 0; row != 0 && panel < call.panels; ++panel) {
    run_full_tiles<kBits>(call, panel);
    if (overlap) run_tile<kBits, kMr, 1>(call, m - kMr, panel);
  }
  if (overlap) return;
  if (m - row >= 4 || (m - row == 3 && m > 4)) {
    run_rows<kBits, 4, 1>(call, min_size(row, m - 4));
    row = min_size(row + 4, m);
  }
  if (m - row >= 2) {
    run_rows<kBits, 2, 2>(call, row);
    row += 2;
  }
  if (m - row == 1) run_rows<kBits, 1, 4>(call, row);
}

}  // namespace

void gemm_u8_s8c_u8_6x16c4_x86_avxvnni(const GemmArgs& args) { gemm<8>(args); }

void gemm_u8_s4c_u8_6x16c4_x86_avxvnni(const GemmArgs& args) { gemm<4>(args); }

}  // namespace edgekit
