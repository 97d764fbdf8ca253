#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"

// Outputs that are no codes: int32, float32, or float32 added to others.

namespace edgekit {
// Each file that includes this is compiled for its own instruction set: nothing here may be shared
// by the linker.
namespace {

/// Loads the floats that are added to the outputs of a row from `column` on, if any are.
inline void load_words_before(const GemmArgs& args, size_t row, size_t column, size_t columns,
                              int32_t* words) {
  if (args.output != Output::kFloat32Sum) return;
  const uint8_t* from = args.requantize.residual + row * args.requantize.residual_stride;
  __builtin_memcpy(words, from + sizeof(words[0]) * column, sizeof(words[0]) * columns);
}

/// Returns what is stored of four sums that no codes are made of, added to `before` where the
/// output says so.
inline int32x4_t real_words(Output output, int32x4_t sums, float32x4_t scale,
                            const int32_t* before) {
  if (output == Output::kInt32) return sums;
  float32x4_t real = vmulq_f32(vcvtq_f32_s32(sums), scale);
  if (output == Output::kFloat32Sum) {
    real = vaddq_f32(vreinterpretq_f32_s32(vld1q_s32(before)), real);
  }
  return vreinterpretq_s32_f32(real);
}

}  // namespace
}  // namespace edgekit
