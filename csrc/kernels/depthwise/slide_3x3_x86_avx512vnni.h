#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/slide_x86_avx512vnni.h"

// 3x3: the weights stay in 12 registers, the sums of the kOpen outputs that wait for columns in
// four registers each, a register a part. Outputs take turns in them.

namespace edgekit {

template <class Registers>
struct Slide3x3Constants {
  __attribute__((noinline)) explicit Slide3x3Constants(const Requantize& requantize)
      : bytes(requantize) {}

  const typename Registers::Bytes bytes;
  alignas(64) int8_t w[3 * FourTaps::kParts * Registers::kCr];
  alignas(64) int32_t bias[Registers::kCr];
  alignas(64) float scale[Registers::kCr];
};

/// Interleaves three rows; the last one also stands for a fourth, whose taps have weight 0.
__attribute__((always_inline)) inline void interleave_three(__m512i row_0, __m512i row_1,
                                                            __m512i row_2,
                                                            __m512i (&part_u8x64)[4]) {
  const __m512i low_01 = _mm512_unpacklo_epi8(row_0, row_1);
  const __m512i high_01 = _mm512_unpackhi_epi8(row_0, row_1);
  const __m512i low_2 = _mm512_unpacklo_epi8(row_2, row_2);
  const __m512i high_2 = _mm512_unpackhi_epi8(row_2, row_2);
  part_u8x64[0] = _mm512_unpacklo_epi16(low_01, low_2);
  part_u8x64[1] = _mm512_unpackhi_epi16(low_01, low_2);
  part_u8x64[2] = _mm512_unpacklo_epi16(high_01, high_2);
  part_u8x64[3] = _mm512_unpackhi_epi16(high_01, high_2);
}

/// kPlain says that the zero point is the byte 0 and that all bytes are within bounds.
template <class Registers, size_t kStride, size_t kSplit, bool kPlain>
struct Slide3x3 {
  using Constants = Slide3x3Constants<Registers>;
  static constexpr size_t kKernel = 3;
  static constexpr size_t kGroups = 1;
  static constexpr size_t kParts = FourTaps::kParts;
  static constexpr size_t kCr = Registers::kCr;
  static constexpr size_t kLanes = kCr / kParts;
  /// A tap whose weights are read from memory, since the rows' addresses take registers too.
  static constexpr size_t kTapInMemory = kStride == 1 && kSplit == 4 ? 2 : kKernel;
  /// Outputs that wait for columns.
  static constexpr size_t kOpen = (kKernel + kStride - 1) / kStride;

  static __attribute__((noinline)) void prepare(const DepthwiseArgs& args, const int8_t* w,
                                                size_t channel, Constants& constants) {
    copy_in_order_of_parts<Registers>(args.bias + channel, constants.bias);
    copy_in_order_of_parts<Registers>(args.requantize.scale + channel, constants.scale);
    for (size_t part = 0; part < kParts; ++part) {
      int32_t* bias = constants.bias + part * kLanes;
      float* scale = constants.scale + part * kLanes;
      Registers::store(bias, load_constants<Registers, kSplit>(bias));
      Registers::store(scale, load_constants<Registers, kSplit>(scale));
    }
    for (size_t i = 0; i < kKernel * kParts; ++i) {
      Registers::store(constants.w + i * kCr, load_constants<Registers, kSplit>(w + i * kCr));
    }
  }

  /// Adds one interleaved column, which is kColumn of the window of the output whose turn it is.
  template <size_t kTurn, size_t kColumn>
  __attribute__((always_inline)) void add(const __m512i (&x)[kParts]) {
    add_tap<kTurn, kColumn>(x);
    if constexpr (kColumn >= kStride) add_tap<kTurn + 1, kColumn - kStride>(x);
    if constexpr (kColumn >= 2 * kStride) add_tap<kTurn + 2, kColumn - 2 * kStride>(x);
  }

  template <size_t kTurn, size_t kTap>
  __attribute__((always_inline)) void add_tap(const __m512i (&x)[kParts]) {
    __m512i(&sums)[kParts] = acc[kTurn % kOpen];
    if constexpr (kTap == kTapInMemory) {
      constexpr size_t kFirst = kTap * kParts * kCr;
      constexpr size_t kSize = sizeof(Constants::w);
      Registers::template dot_memory<kFirst, kSize>(sums[0], x[0], constants.w);
      Registers::template dot_memory<kFirst + kCr, kSize>(sums[1], x[1], constants.w);
      Registers::template dot_memory<kFirst + 2 * kCr, kSize>(sums[2], x[2], constants.w);
      Registers::template dot_memory<kFirst + 3 * kCr, kSize>(sums[3], x[3], constants.w);
    } else {
#pragma GCC unroll 4
      for (size_t part = 0; part < kParts; ++part) {
        Registers::dot(sums[part], x[part], w[kTap][part]);
      }
    }
  }

  /// Adds the next column, which is inside.
  template <size_t kTurn, size_t kColumn>
  __attribute__((always_inline)) void add_inside() {
    __m512i loaded[kKernel];
#pragma GCC unroll 3
    for (size_t r = 0; r < kKernel; ++r) {
      loaded[r] = load_column<Registers, kSplit>(at, r, offset);
      // Loaded once for two instructions, and row after row, for want of registers.
      __asm__ volatile("" : "+v"(loaded[r]) : : "memory");
    }
    offset += at.channels;
    // Or GCC keeps a pointer to each row of each column.
    __asm__ volatile("" : "+r"(offset));
    __m512i x[kParts];
    interleave_three(loaded[0], loaded[1], loaded[2], x);
    add<kTurn, kColumn>(x);
  }

  /// Adds the next column, wherever it is. Zeros add nothing.
  template <size_t kTurn, size_t kColumn>
  __attribute__((always_inline)) void add_next() {
    if (column < at.in_width) {
      add_inside<kTurn, kColumn>();
    } else {
      offset += at.channels;
      if (at.zero != 0) {
        const __m512i zero = splat_rarely(at.zero);
        const __m512i x[kParts] = {zero, zero, zero, zero};
        add<kTurn, kColumn>(x);
      }
    }
    ++column;
  }

  template <size_t kTurn>
  __attribute__((always_inline)) void begin() {
#pragma GCC unroll 4
    for (size_t part = 0; part < kParts; ++part) {
      acc[kTurn][part] = Registers::load(constants.bias + part * kLanes);
    }
  }

  /// Stores the output whose turn it is and begins a new one in its place.
  template <size_t kTurn>
  __attribute__((always_inline)) void finish() {
    const float* scale = constants.scale;
    const __m512i words_0 = Registers::products(acc[kTurn][0], acc[kTurn][1], scale);
    const __m512i words_1 = Registers::products(acc[kTurn][2], acc[kTurn][3], scale + 2 * kLanes);
    if constexpr (kPlain) {
      store_block<Registers, kSplit>(at, _mm512_packus_epi16(words_0, words_1));
    } else {
      const __m512i zero_point = constants.bytes.constants.zero_point_s16x32;
      store_block<Registers, kSplit>(at,
                                     constants.bytes.bytes(_mm512_adds_epi16(words_0, zero_point),
                                                           _mm512_adds_epi16(words_1, zero_point)));
    }
    begin<kTurn>();
  }

  /// Completes all open outputs, whose columns are inside.
  template <size_t kTurn>
  __attribute__((always_inline)) void finish_inside() {
    add_inside<kTurn, kKernel - kStride>();
    if constexpr (kStride == 2) add_inside<kTurn, kKernel - 1>();
    finish<kTurn>();
    if constexpr (kTurn + 1 < kOpen) finish_inside<kTurn + 1>();
  }

  /// Completes the first open output and makes the second one the first.
  __attribute__((always_inline)) void finish_next() {
    add_next<0, kKernel - kStride>();
    if constexpr (kStride == 2) add_next<0, kKernel - 1>();
    finish<0>();
#pragma GCC unroll 4
    for (size_t part = 0; part < kParts; ++part) {
      const __m512i begun = acc[0][part];
#pragma GCC unroll 2
      for (size_t t = 0; t + 1 < kOpen; ++t) acc[t][part] = acc[t + 1][part];
      acc[kOpen - 1][part] = begun;
    }
  }

  /// Computes a row of outputs, or two.
  __attribute__((always_inline)) void walk(size_t pad_left) {
    column = 0 - pad_left;
    offset = column * at.channels;
    begin<0>();
    begin<1>();
    if constexpr (kOpen == 3) begin<2>();
    add_next<0, 0>();
    if constexpr (kStride == 1) add_next<0, 1>();
    size_t outputs = at.out_width;
    while (outputs != 0) {
      constexpr size_t kColumns = kOpen * kStride;
      size_t turns = outputs / kOpen;
      const size_t inside = column < at.in_width ? (at.in_width - column) / kColumns : 0;
      if (turns > inside) turns = inside;
      column += turns * kColumns;
      outputs -= turns * kOpen;
      for (; turns != 0; --turns) finish_inside<0>();
      if (outputs == 0) return;
      finish_next();
      --outputs;
    }
  }

  static __attribute__((noinline)) void run(const DepthwiseArgs& args, size_t channel,
                                            const Constants& constants) {
    Slide3x3 slide{Sliding(args, channel), constants, 0, 0, {}, {}};
#pragma GCC unroll 3
    for (size_t s = 0; s < kKernel; ++s) {
#pragma GCC unroll 4
      for (size_t part = 0; part < kParts; ++part) {
        slide.w[s][part] = Registers::load(constants.w + (s * kParts + part) * kCr);
      }
    }
    for (size_t i = 0; i < args.out_rows; i += kSplit) {
      slide.at.template go_to<kKernel, kSplit>(args, channel, i);
      slide.walk(args.pad_left);
    }
  }

  Sliding at;
  const Constants& constants;
  /// The next column, which wraps around left of the row, and its place there.
  size_t column;
  size_t offset;
  __m512i w[kKernel][kParts];
  __m512i acc[kOpen][kParts];
};

}  // namespace edgekit
