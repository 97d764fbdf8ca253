#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/requantize_arm_neon.h"

namespace edgekit {
// Each file that includes this is compiled for its own instruction set: nothing here may be shared
// by the linker.
namespace {

/// Columns of the tiles that store_rows() writes.
constexpr size_t kStoredColumns = 16;

/// Writes the codes of `rows` rows of 16 sums each, `make_codes(acc, r)`.
template <class MakeCodes>
EDGEKIT_INLINE void store_full_rows(const int32_t* sums, size_t rows, uint8_t* y, size_t y_stride,
                                    MakeCodes make_codes) {
  for (size_t r = 0; r < rows; ++r, sums += kStoredColumns, y += y_stride) {
    vst1q_s8(reinterpret_cast<int8_t*>(y), make_codes(load_sums(sums), r));
  }
}

/// Writes the outputs of `rows` rows of 16 sums each, of every kind, and of a panel that n cuts
/// off.
__attribute__((noinline)) void store_rows(const GemmArgs& args, const NeonRequantize& requantize,
                                          const int32_t* sums, size_t rows, size_t row,
                                          size_t column) {
  const size_t columns = args.n - column < kStoredColumns ? args.n - column : kStoredColumns;
  const float* scale = args.requantize.scale + column;
  uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_stride;
  const uint8_t* residual = args.requantize.residual;
  const size_t residual_stride = args.requantize.residual_stride;
  if (residual != nullptr) residual += row * residual_stride + column;
  if (args.output != Output::kCodes) {
    for (size_t r = 0; r < rows; ++r, sums += kStoredColumns, y += args.y_stride) {
      int32_t words[kStoredColumns];
      for (size_t c = 0; c < kStoredColumns; c += 4) {
        const int32x4_t sum = vld1q_s32(sums + c);
        const float32x4_t real = vmulq_f32(vcvtq_f32_s32(sum), vld1q_f32(scale + c));
        vst1q_s32(words + c, args.output == Output::kInt32 ? sum : vreinterpretq_s32_f32(real));
      }
      __builtin_memcpy(y + sizeof(words[0]) * column, words, sizeof(words[0]) * columns);
    }
    return;
  }
  y += column;
  const Scales16 scales = load_scales(scale);
  if (columns < kStoredColumns) {
    for (size_t r = 0; r < rows; ++r, sums += kStoredColumns, y += args.y_stride) {
      const Sums16 acc = load_sums(sums);
      const int8x16_t codes =
          residual != nullptr
              ? requantize.add(acc, scales, load_codes(residual + r * residual_stride, columns))
              : requantize.codes(acc, scales);
      store_codes(y, codes, columns);
    }
  } else if (residual != nullptr) {
    store_full_rows(sums, rows, y, args.y_stride, [&](const Sums16& acc, size_t r) {
      return requantize.add(acc, scales, load_codes(residual + r * residual_stride));
    });
  } else if (requantize.is_bounded()) {
    store_full_rows(sums, rows, y, args.y_stride, [&](const Sums16& acc, size_t) {
      return requantize.bounded_codes(acc, scales);
    });
  } else {
    store_full_rows(sums, rows, y, args.y_stride,
                    [&](const Sums16& acc, size_t) { return requantize.codes(acc, scales); });
  }
}

}  // namespace
}  // namespace edgekit
