#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/gemm/store_arm_neon.h"
#include "kernels/gemm/words_arm_neon.h"
#include "kernels/requantize_arm_neon.h"

namespace edgekit {
namespace {

/// Rows of 16 outputs, a vector of codes each.
struct FullRows {
  static constexpr size_t kRows = 1;

  static Sums16 load_row_sums(const int32_t* sums, size_t) { return load_sums(sums); }
  static Scales16 load_row_scales(const float* scale) { return load_scales(scale); }
  static int8x16_t load_row_codes(const uint8_t* from, size_t) { return load_codes(from); }
  static void store_row_codes(uint8_t* y, size_t, int8x16_t codes) {
    vst1q_s8(reinterpret_cast<int8_t*>(y), codes);
  }
};

/// Rows of 8 outputs, two to a vector. The last row may be both.
struct HalfRows {
  static constexpr size_t kRows = 2;

  static Sums16 load_row_sums(const int32_t* sums, size_t next) {
    const int32_t* second = sums + next * kStoredColumns;
    return {{vld1q_s32(sums), vld1q_s32(sums + 4), vld1q_s32(second), vld1q_s32(second + 4)}};
  }
  static Scales16 load_row_scales(const float* scale) {
    const float32x4_t low = vld1q_f32(scale);
    const float32x4_t high = vld1q_f32(scale + 4);
    return {{low, high, low, high}};
  }
  static int8x16_t load_row_codes(const uint8_t* from, size_t stride) {
    const int8_t* codes = reinterpret_cast<const int8_t*>(from);
    return vcombine_s8(vld1_s8(codes), vld1_s8(codes + stride));
  }
  static void store_row_codes(uint8_t* y, size_t stride, int8x16_t codes) {
    vst1_s8(reinterpret_cast<int8_t*>(y), vget_low_s8(codes));
    vst1_s8(reinterpret_cast<int8_t*>(y + stride), vget_high_s8(codes));
  }
};

/// Where the codes of a residual lie, if there is one, and those that are written.
struct StoredCodes {
  const uint8_t* residual;
  size_t residual_stride;
  uint8_t* y;
  size_t y_stride;
};

/// Writes the codes of `rows` rows, `make_codes(acc, residual)`.
template <class Rows, class MakeCodes>
EDGEKIT_INLINE void store_each(const int32_t* sums, size_t rows, StoredCodes codes,
                               MakeCodes make_codes) {
  for (size_t r = 0; r < rows; r += Rows::kRows, sums += Rows::kRows * kStoredColumns) {
    const size_t next = r + 1 < rows ? 1 : 0;
    const Sums16 acc = Rows::load_row_sums(sums, next);
    int8x16_t residual = vdupq_n_s8(0);
    if (codes.residual != nullptr) {
      residual = Rows::load_row_codes(codes.residual, next * codes.residual_stride);
      codes.residual += Rows::kRows * codes.residual_stride;
    }
    Rows::store_row_codes(codes.y, next * codes.y_stride, make_codes(acc, residual));
    codes.y += Rows::kRows * codes.y_stride;
  }
}

/// Writes the codes of `rows` rows that n does not cut off.
template <class Rows>
EDGEKIT_INLINE void store_whole_rows(const GemmArgs& args, const float* scale, const int32_t* sums,
                                     size_t rows, const StoredCodes& codes) {
  const Scales16 scales = Rows::load_row_scales(scale);
  if (codes.residual != nullptr) {
    const NeonSum sum(args.requantize);
    store_each<Rows>(sums, rows, codes, [&](const Sums16& acc, int8x16_t residual) {
      return sum.codes(acc, scales, residual);
    });
    return;
  }
  const NeonRequantize requantize(args.requantize);
  const StoredCodes alone = {nullptr, 0, codes.y, codes.y_stride};
  if (requantize.is_bounded()) {
    store_each<Rows>(sums, rows, alone, [&](const Sums16& acc, int8x16_t) {
      return requantize.bounded_codes(acc, scales);
    });
  } else {
    store_each<Rows>(sums, rows, alone,
                     [&](const Sums16& acc, int8x16_t) { return requantize.codes(acc, scales); });
  }
}

}  // namespace

void store_rows_arm_neon(const GemmArgs& args, const int32_t* sums, size_t rows, size_t row,
                         size_t column) {
  const size_t columns = args.n - column < kStoredColumns ? args.n - column : kStoredColumns;
  const float* scale = args.requantize.scale + column;
  uint8_t* y = static_cast<uint8_t*>(args.y) + row * args.y_stride;
  const uint8_t* residual = args.requantize.residual;
  const size_t residual_stride = args.requantize.residual_stride;
  if (args.output != Output::kCodes) {
    y += sizeof(int32_t) * column;
    for (size_t r = 0; r < rows; ++r, sums += kStoredColumns, y += args.y_stride) {
      int32_t words[kStoredColumns] = {};
      load_words_before(args, row + r, column, columns, words);
      for (size_t c = 0; c < kStoredColumns; c += 4) {
        const int32x4_t sum = vld1q_s32(sums + c);
        vst1q_s32(words + c, real_words(args.output, sum, vld1q_f32(scale + c), words + c));
      }
      __builtin_memcpy(y, words, sizeof(words[0]) * columns);
    }
    return;
  }
  if (residual != nullptr) residual += row * residual_stride + column;
  y += column;
  const StoredCodes codes = {residual, residual_stride, y, args.y_stride};
  if (columns == kStoredColumns) {
    return store_whole_rows<FullRows>(args, scale, sums, rows, codes);
  }
  if (columns == kStoredColumns / 2) {
    return store_whole_rows<HalfRows>(args, scale, sums, rows, codes);
  }
  const Scales16 scales = load_scales(scale);
  const NeonRequantize requantize(args.requantize);
  for (size_t r = 0; r < rows; ++r, sums += kStoredColumns, y += args.y_stride) {
    const Sums16 acc = load_sums(sums);
    const int8x16_t own =
        residual != nullptr
            ? requantize.add(acc, scales, load_codes(residual + r * residual_stride, columns))
            : requantize.codes(acc, scales);
    store_codes(y, own, columns);
  }
}

}  // namespace edgekit
