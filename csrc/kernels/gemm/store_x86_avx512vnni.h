#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/requantize_x86_avx512vnni.h"

// What the kernels with 512-bit registers share of the way from accumulators to the output. The
// functions are static, so that no code built for this instruction set is shared with the rest of
// the program.

namespace edgekit {

/// How a tile is stored.
enum class Epilogue : uint8_t {
  kProducts,      ///< bytes, requantized in registers
  kSaturated,     ///< the same, where saturating clamps: see saturates()
  kUnclamped,     ///< the same with a zero point: see spans_bytes()
  kFused,         ///< bytes by FusedRequantize, where saturating clamps
  kFusedClamped,  ///< bytes by FusedRequantize
  kResidualSums,  ///< bytes, requantized and added to a residual in registers
  kFloats,        ///< float32, multiplied in registers: see writes_floats()
  kFloatSums,     ///< the same, added to a residual of float32
  kOther,         ///< int32, and products or sums that may leave int32; or float32
};

/// Returns whether the products of a call are clamped to all that a byte holds, and added to a zero
/// point of 0, as behind most rectifiers: then saturating packs are all that they need.
static inline bool saturates(const Requantize& requantize) {
  return requantize.zero_point == 0 && requantize.lo == 0 && requantize.hi == 255;
}

/// Returns whether the products of a call are clamped to all that a byte holds, whatever their zero
/// point: then saturating packs clamp them.
static inline bool spans_bytes(const Requantize& requantize) {
  const float zero_point = static_cast<float>(requantize.zero_point);
  return requantize.lo + zero_point == 0 && requantize.hi + zero_point == 255;
}

/// Returns how the tiles of a call are stored; none that takes a question of its own.
static inline Epilogue find_epilogue(const GemmArgs& args) {
  const Requantize& requantize = args.requantize;
  if (args.output != Output::kCodes) return Epilogue::kOther;
  if (requantize.residual != nullptr) {
    return residual_sums_fit_int32(requantize) ? Epilogue::kResidualSums : Epilogue::kOther;
  }
  return products_fit_int32(requantize.scale, args.n) ? Epilogue::kProducts : Epilogue::kOther;
}

/// Returns whether a call writes float32.
static inline bool writes_floats(const GemmArgs& args) {
  return args.output == Output::kFloat32 || args.output == Output::kFloat32Sum;
}

/// Returns how the tiles of a call are stored, by FusedRequantize where the call has it.
static inline Epilogue find_fused_epilogue(const GemmArgs& args) {
  if (args.output != Output::kCodes || args.requantize.fused.start == nullptr) {
    return find_epilogue(args);
  }
  return spans_bytes(args.requantize) ? Epilogue::kFused : Epilogue::kFusedClamped;
}

/// Returns whether tiles are stored by FusedRequantize.
static constexpr bool is_fused(Epilogue epilogue) {
  return epilogue == Epilogue::kFused || epilogue == Epilogue::kFusedClamped;
}

/// Returns the constants for packing the products or sums of a call.
static inline RequantizeBytes find_requantize_bytes(const Requantize& requantize) {
  if (requantize.residual == nullptr) return requantize_bytes(requantize);
  return requantize_bytes(requantize.sum_lo, requantize.sum_hi, requantize.sum_zero_point);
}

/// Stores accumulators [rows][acc_step] of columns [column, column + columns) however args.output
/// wants them. They lie at a multiple of 64 bytes, and so does each row.
static inline void store_accumulators(const GemmArgs& args, const int32_t* accumulators,
                                      size_t acc_step, size_t row, size_t rows, size_t column,
                                      size_t columns) {
  constexpr size_t kLanes = 16;
  const Requantize& requantize = args.requantize;
  for (size_t i = 0; i < rows; ++i) {
    uint8_t* y = static_cast<uint8_t*>(args.y) + (row + i) * args.y_stride;
    const uint8_t* residual = requantize.residual;
    if (residual != nullptr) residual += (row + i) * requantize.residual_stride + column;
    for (size_t c = 0; c < columns; c += kLanes) {
      const __m512i acc = _mm512_load_si512(accumulators + i * acc_step + c);
      const __mmask16 lanes = first_lanes(columns - c);
      if (args.output == Output::kCodes) {
        const __m512i codes = requantize_lanes(requantize, acc, column + c,
                                               residual != nullptr ? residual + c : nullptr, lanes);
        _mm512_mask_cvtepi32_storeu_epi8(y + column + c, lanes, codes);
      } else if (args.output == Output::kInt32) {
        _mm512_mask_storeu_epi32(y + (column + c) * sizeof(int32_t), lanes, acc);
      } else {
        const __m512 scale = _mm512_maskz_loadu_ps(lanes, requantize.scale + column + c);
        __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale);
        uint8_t* const to = y + (column + c) * sizeof(float);
        if (args.output == Output::kFloat32Sum) {
          const uint8_t* before =
              requantize.residual + (row + i) * requantize.residual_stride + (to - y);
          v = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, before), v);
        }
        _mm512_mask_storeu_ps(to, lanes, v);
      }
    }
  }
}

}  // namespace edgekit
