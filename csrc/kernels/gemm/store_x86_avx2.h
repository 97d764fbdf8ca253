#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels/gemm/gemm.h"
#include "kernels/requantize_x86_avx2.h"

// Every kind of output for one row of sixteen columns, for the kernels with 256-bit registers. The
// function is static, so that no code built for this instruction set is shared with the rest of the
// program.

namespace edgekit {

/// Stores the accumulators of columns `column` to `column + 15` of a row, as far as there are such
/// columns, as args.output says.
static inline void store_row(const GemmArgs& args, size_t row, size_t column, __m256i low_s32x8,
                             __m256i high_s32x8) {
  constexpr size_t kColumns = 16;
  const Requantize& requantize = args.requantize;
  const size_t count = args.n - column < kColumns ? args.n - column : kColumns;
  uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_stride;
  if (args.output == Output::kCodes) {
    const uint8_t* residual = requantize.residual;
    if (residual != nullptr) residual += row * requantize.residual_stride + column;
    requantize_store(requantize, low_s32x8, high_s32x8, column, residual, y + column, count);
    return;
  }
  alignas(32) int32_t values[kColumns];
  y += column * sizeof(values[0]);
  if (args.output != Output::kInt32) {
    const float* scale = requantize.scale + column;
    __m256 low = _mm256_mul_ps(_mm256_cvtepi32_ps(low_s32x8), _mm256_loadu_ps(scale));
    __m256 high = _mm256_mul_ps(_mm256_cvtepi32_ps(high_s32x8), _mm256_loadu_ps(scale + 8));
    if (args.output == Output::kFloat32Sum) {
      alignas(32) float before[kColumns] = {};
      const uint8_t* from = requantize.residual + row * requantize.residual_stride;
      std::memcpy(before, from + column * sizeof(before[0]), count * sizeof(before[0]));
      low = _mm256_add_ps(_mm256_load_ps(before), low);
      high = _mm256_add_ps(_mm256_load_ps(before + 8), high);
    }
    low_s32x8 = _mm256_castps_si256(low);
    high_s32x8 = _mm256_castps_si256(high);
  }
  _mm256_store_si256(reinterpret_cast<__m256i*>(values), low_s32x8);
  _mm256_store_si256(reinterpret_cast<__m256i*>(values + 8), high_s32x8);
  std::memcpy(y, values, count * sizeof(values[0]));
}

}  // namespace edgekit
