#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/gemm/gemm.h"
#include "kernels/requantize_x86_avx512vnni.h"

// Up to 6 rows by 4 panels of 16 columns, or 8 rows by 1 to 3 panels; a step takes 4 of k:
//
//                 b0      b1      b2      b3         64 bytes of each panel
//   row 0   a0    acc00   acc01   acc02   acc03      a: 4 bytes, broadcast from memory
//   ...
//   row 5   a5    acc50   acc51   acc52   acc53
//
// 24 accumulators, 4 of b and 1 of a are 29 of the 32 registers. Panels are shared out evenly (5
// are 3 + 2). Rows left over take smaller tiles, or overlap the tile before; columns left over are
// masked; k left over meets zero weights.

namespace edgekit {
namespace {

constexpr size_t kPanel = 16;
constexpr size_t kKr = 4;
constexpr size_t kStepBytes = kPanel * kKr;
constexpr size_t kMaxPanels = 4;
constexpr size_t kMaxTile = 8 * kMaxPanels * kPanel;

size_t min_size(size_t a, size_t b) { return a < b ? a : b; }

/// acc[c] += sum over 4 of a (u8) * b (s8). The intrinsic makes GCC 12 spill the accumulators.
inline void dot(__m512i& acc_s32x16, __m512i a_u8x64, __m512i b_s8x64) {
  __asm__("vpdpbusd %2, %1, %0" : "+v"(acc_s32x16) : "v"(a_u8x64), "v"(b_s8x64));
}

/// Four bytes of a row in every lane.
inline __m512i broadcast(const uint8_t* a) {
  int32_t bytes = 0;
  std::memcpy(&bytes, a, sizeof(bytes));
  return _mm512_set1_epi32(bytes);
}

/// A block of columns, at most kMaxPanels panels, and what its tiles need.
struct Block {
  const GemmArgs& args;
  const int8_t* w;
  size_t panel_bytes;
  size_t steps;
  size_t column;
  size_t columns;
  /// Whether tiles are requantized in registers.
  bool bytes_in_registers;
  /// Room for one tile of accumulators, for the other epilogues.
  int32_t* accumulators;
};

/// Stores `rows` rows of accumulators, kMaxPanels panels apart, however args.output wants them.
__attribute__((noinline)) void store_accumulators(const Block& block, size_t row, size_t rows) {
  const GemmArgs& args = block.args;
  const Requantize& requantize = args.requantize;
  for (size_t i = 0; i < rows; ++i) {
    uint8_t* y = static_cast<uint8_t*>(args.y) + (row + i) * args.y_stride;
    const uint8_t* residual = requantize.residual;
    if (residual != nullptr) residual += (row + i) * requantize.residual_stride + block.column;
    for (size_t c = 0; c < block.columns; c += kPanel) {
      const __m512i acc = _mm512_load_si512(block.accumulators + i * kMaxPanels * kPanel + c);
      const size_t column = block.column + c;
      const __mmask16 lanes = first_lanes(block.columns - c);
      if (args.output == Output::kCodes) {
        const __m512i codes = requantize_lanes(requantize, acc, column,
                                               residual != nullptr ? residual + c : nullptr, lanes);
        _mm512_mask_cvtepi32_storeu_epi8(y + column, lanes, codes);
      } else if (args.output == Output::kInt32) {
        _mm512_mask_storeu_epi32(y + column * sizeof(int32_t), lanes, acc);
      } else {
        const __m512 scale = _mm512_loadu_ps(requantize.scale + column);
        const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale);
        _mm512_mask_storeu_ps(y + column * sizeof(float), lanes, v);
      }
    }
  }
}

/// Stores the first `columns` of at most 16 * kPanels bytes.
template <int kPanels>
inline void store_bytes(uint8_t* y, __m512i bytes, size_t columns) {
  if (columns < kPanels * kPanel) {
    _mm512_mask_storeu_epi8(y, (uint64_t{1} << columns) - 1, bytes);
  } else if constexpr (kPanels == 4) {
    _mm512_storeu_si512(y, bytes);
  } else if constexpr (kPanels == 3) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm512_castsi512_si256(bytes));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y + 32), _mm512_extracti32x4_epi32(bytes, 2));
  } else if constexpr (kPanels == 2) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y), _mm512_castsi512_si256(bytes));
  } else {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(y), _mm512_castsi512_si128(bytes));
  }
}

template <int kRows, int kPanels>
__attribute__((noinline)) void tile(const Block& block, size_t row) {
  const GemmArgs& args = block.args;
  __m512i acc[kRows][kPanels];
#pragma GCC unroll 4
  for (int p = 0; p < kPanels; ++p) {
    acc[0][p] = _mm512_loadu_si512(args.bias + block.column + static_cast<size_t>(p) * kPanel);
#pragma GCC unroll 8
    for (int i = 1; i < kRows; ++i) acc[i][p] = acc[0][p];
  }

  const int8_t* w = block.w;
  for (size_t t = 0; t < args.taps; ++t) {
    const uint8_t* a[kRows];
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
      const size_t r = row + static_cast<size_t>(i);
      a[i] = args.rows ? args.rows[r * args.taps + t] : args.a + r * args.a_stride;
    }
    for (size_t step = 0; step < block.steps; ++step, w += kStepBytes) {
      __m512i b[kPanels];
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        b[p] = _mm512_loadu_si512(w + static_cast<size_t>(p) * block.panel_bytes);
      }
#pragma GCC unroll 8
      for (int i = 0; i < kRows; ++i) {
        const __m512i a_i = broadcast(a[i] + step * kKr);
#pragma GCC unroll 4
        for (int p = 0; p < kPanels; ++p) dot(acc[i][p], a_i, b[p]);
      }
    }
  }

  if (!block.bytes_in_registers) {
#pragma GCC unroll 8
    for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 4
      for (int p = 0; p < kPanels; ++p) {
        _mm512_store_si512(
            block.accumulators +
                (static_cast<size_t>(i) * kMaxPanels + static_cast<size_t>(p)) * kPanel,
            acc[i][p]);
      }
    }
    store_accumulators(block, row, kRows);
    return;
  }

  // Four vectors are packed at a time: of one row, of two rows by two panels or of four by one.
  constexpr int kTogether = kPanels == 1 ? 4 : kPanels == 2 ? 2 : 1;
  const RequantizeBytes constants = requantize_bytes(args.requantize);
  uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_stride + block.column;
#pragma GCC unroll 8
  for (int i = 0; i < kRows; i += kTogether) {
    __m512i v[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      // Rows and panels that there are not repeat the first, and are not stored.
      const int p = j % kPanels;
      const int r = j / kPanels < kTogether && i + j / kPanels < kRows ? i + j / kPanels : i;
      const float* scale = args.requantize.scale + block.column + static_cast<size_t>(p) * kPanel;
      v[j] = rounded_product(acc[r][p], _mm512_loadu_ps(scale));
    }
    const __m512i bytes = pack_bytes(constants, v[0], v[1], v[2], v[3]);
    store_bytes<kPanels>(y, bytes, block.columns);
    y += args.y_stride;
    if constexpr (kPanels == 2 && kRows > 1) {
      store_bytes<kPanels>(y, _mm512_castsi256_si512(_mm512_extracti64x4_epi64(bytes, 1)),
                           block.columns);
      y += args.y_stride;
    }
    if constexpr (kPanels == 1 && kRows > 1) {
      store_bytes<kPanels>(y, _mm512_castsi128_si512(_mm512_extracti32x4_epi32(bytes, 1)),
                           block.columns);
      y += args.y_stride;
    }
    if constexpr (kPanels == 1 && kRows > 2) {
      store_bytes<kPanels>(y, _mm512_castsi128_si512(_mm512_extracti32x4_epi32(bytes, 2)),
                           block.columns);
      y += args.y_stride;
      store_bytes<kPanels>(y, _mm512_castsi128_si512(_mm512_extracti32x4_epi32(bytes, 3)),
                           block.columns);
      y += args.y_stride;
    }
  }
}

/// Covers all rows of a block: full tiles, then smaller ones, the last of which may overlap.
template <int kPanels>
void run_block(const Block& block) {
  constexpr int kRows = kPanels == 4 ? 6 : 8;
  const size_t m = block.args.m;
  for (size_t row = 0; row < m;) {
    const size_t rest = m - row;
    if (rest >= kRows || (rest > 4 && m >= kRows)) {
      tile<kRows, kPanels>(block, min_size(row, m - kRows));
      row += kRows;
    } else if (rest >= 4 || (rest == 3 && m >= 4)) {
      tile<4, kPanels>(block, min_size(row, m - 4));
      row += 4;
    } else if (rest >= 2) {
      tile<2, kPanels>(block, row);
      row += 2;
    } else {
      tile<1, kPanels>(block, row);
      row += 1;
    }
  }
}

}  // namespace

void gemm_u8_s8c_u8_6x64c4_x86_avx512vnni(const GemmArgs& args) {
  alignas(64) int32_t accumulators[kMaxTile];
  const size_t steps = (args.k + kKr - 1) / kKr;
  const size_t panel_bytes = args.taps * steps * kStepBytes;
  const size_t panels = (args.n + kPanel - 1) / kPanel;
  const size_t blocks = (panels + kMaxPanels - 1) / kMaxPanels;
  const bool bytes_in_registers = args.output == Output::kCodes &&
                                  args.requantize.residual == nullptr &&
                                  products_fit_int32(args.requantize.scale, args.n);
  size_t panel = 0;
  for (size_t b = 0; b < blocks; ++b) {
    const size_t count = (panels - panel + blocks - b - 1) / (blocks - b);
    const size_t column = panel * kPanel;
    const Block block{args,
                      args.w + panel * panel_bytes,
                      panel_bytes,
                      steps,
                      column,
                      min_size(count * kPanel, args.n - column),
                      bytes_in_registers,
                      accumulators};
    switch (count) {
      case 1:
        run_block<1>(block);
        break;
      case 2:
        run_block<2>(block);
        break;
      case 3:
        run_block<3>(block);
        break;
      default:
        run_block<4>(block);
        break;
    }
    panel += count;
  }
}

}  // namespace edgekit
