#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/requantize_x86_avx512vnni.h"

// Products of up to 4 columns, rows a stride apart: lanes are 16 rows, since of a panel's 16
// columns most would be missing. Sixteen bytes of each row become four registers of four bytes a
// row:
//
//   row 0    a b c d         a0 a1 a2 a3 ... a15
//   row 1    a b c d   ->    b0 b1 b2 b3 ... b15
//   ...                      c0 ...
//   row 15   a b c d         d0 ...
//
// Weights are broadcast from the panel, whose step is 16 columns of 4 bytes.

namespace edgekit {
namespace {

constexpr size_t kMostColumns = 4;
constexpr size_t kLaneRows = 16;
constexpr size_t kWeightBytes = 4;
constexpr size_t kPanelStep = 64;

/// acc += sum over 4 of a (u8) * w (s8), the same four w for every lane.
inline void dot_broadcast(__m512i& acc_s32x16, __m512i a_u8x64, const int8_t* w) {
  __asm__("vpdpbusd %2%{1to16%}, %1, %0"
          : "+v"(acc_s32x16)
          : "v"(a_u8x64), "m"(*reinterpret_cast<const int8_t (*)[kWeightBytes]>(w)));
}

/// Sixteen bytes of each of four rows `step` bytes apart.
inline __m512i load_rows(const uint8_t* row, size_t step) {
  const auto load = [](const uint8_t* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  };
  __m512i bytes = _mm512_castsi128_si512(load(row));
  bytes = _mm512_mask_broadcast_i32x4(bytes, 0x00F0, load(row + step));
  bytes = _mm512_mask_broadcast_i32x4(bytes, 0x0F00, load(row + 2 * step));
  return _mm512_mask_broadcast_i32x4(bytes, 0xF000, load(row + 3 * step));
}

/// Multiplies sixteen rows from `a` on. Row 4 * l + r stands in the 128 bits l of register r.
template <size_t kColumns>
inline void multiply_lanes(const uint8_t* a, size_t stride, size_t steps, const int8_t* w,
                           __m512i (&acc)[kColumns]) {
  for (size_t step = 0; step < steps; step += 4, w += 4 * kPanelStep, a += 4 * kWeightBytes) {
    const __m512i row0 = load_rows(a, 4 * stride);
    const __m512i row1 = load_rows(a + stride, 4 * stride);
    const __m512i row2 = load_rows(a + 2 * stride, 4 * stride);
    const __m512i row3 = load_rows(a + 3 * stride, 4 * stride);
    const __m512i low01 = _mm512_unpacklo_epi32(row0, row1);
    const __m512i low23 = _mm512_unpacklo_epi32(row2, row3);
    const __m512i high01 = _mm512_unpackhi_epi32(row0, row1);
    const __m512i high23 = _mm512_unpackhi_epi32(row2, row3);
    const __m512i parts[4] = {
        _mm512_unpacklo_epi64(low01, low23), _mm512_unpackhi_epi64(low01, low23),
        _mm512_unpacklo_epi64(high01, high23), _mm512_unpackhi_epi64(high01, high23)};
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; ++i) {
      if (step + i == steps) return;
#pragma GCC unroll 4
      for (size_t c = 0; c < kColumns; ++c) {
        dot_broadcast(acc[c], parts[i], w + i * kPanelStep + c * kWeightBytes);
      }
    }
  }
}

/// Writes sixteen rows of kColumns bytes, which are the low bytes of each lane.
template <size_t kColumns>
inline void store_rows(__m512i bytes, uint8_t* y, size_t y_stride) {
  if (kColumns == y_stride && kColumns == 1) {
    return _mm512_mask_cvtepi32_storeu_epi8(y, 0xFFFF, bytes);
  }
  if (kColumns == y_stride && kColumns == 2) {
    return _mm512_mask_cvtepi32_storeu_epi16(y, 0xFFFF, bytes);
  }
  if (kColumns == y_stride && kColumns == 4) return _mm512_storeu_si512(y, bytes);
  alignas(64) uint8_t lanes[kLaneRows * 4];
  _mm512_store_si512(lanes, bytes);
  for (size_t r = 0; r < kLaneRows; ++r) {
    for (size_t c = 0; c < kColumns; ++c) y[r * y_stride + c] = lanes[r * 4 + c];
  }
}

template <size_t kColumns>
__attribute__((noinline)) void run_few_columns(const GemmArgs& args) {
  const size_t steps = (args.k + kWeightBytes - 1) / kWeightBytes;
  const Requantize& requantize = args.requantize;
  const __m512 lo = _mm512_set1_ps(requantize.lo);
  const __m512 hi = _mm512_set1_ps(requantize.hi);
  const __m512i zero_point = _mm512_set1_epi32(requantize.zero_point);
  for (size_t first = 0; first < args.m; first += kLaneRows) {
    // The last rows overlap those before.
    const size_t row = args.m - first < kLaneRows ? args.m - kLaneRows : first;
    __m512i acc[kColumns];
    for (size_t c = 0; c < kColumns; ++c) acc[c] = _mm512_set1_epi32(args.bias[c]);
    multiply_lanes<kColumns>(args.a + row * args.a_stride, args.a_stride, steps, args.w, acc);
    __m512i bytes = _mm512_setzero_si512();
    for (size_t c = kColumns; c-- > 0;) {
      const __m512i code = _mm512_add_epi32(
          requantize_offsets(acc[c], _mm512_set1_ps(requantize.scale[c]), lo, hi), zero_point);
      bytes = _mm512_or_si512(_mm512_slli_epi32(bytes, 8), code);
    }
    store_rows<kColumns>(bytes, static_cast<uint8_t*>(args.y) + row * args.y_stride, args.y_stride);
  }
}

/// Serves a call where that pays, and returns whether it did.
inline bool serve_few_columns(const GemmArgs& args) {
  if (args.n > kMostColumns || args.m < kLaneRows || args.rows != nullptr || args.taps != 1 ||
      args.output != Output::kCodes || args.requantize.residual != nullptr) {
    return false;
  }
  switch (args.n) {
    case 1:
      run_few_columns<1>(args);
      return true;
    case 2:
      run_few_columns<2>(args);
      return true;
    case 3:
      run_few_columns<3>(args);
      return true;
    case 4:
      run_few_columns<4>(args);
      return true;
    default:
      return false;
  }
}

}  // namespace
}  // namespace edgekit
