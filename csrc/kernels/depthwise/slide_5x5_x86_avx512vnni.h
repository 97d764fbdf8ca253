#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/slide_x86_avx512vnni.h"

// 5x5, of which the first four rows are interleaved down each column, and the fifth one along four
// columns, so that it takes 2 products an output instead of 5:
//
//   columns 0 to 3 of rows 0 to 3:   x[0][c], x[1][c], x[2][c], x[3][c]   for each of 4 columns c
//   columns 0 to 3 of row 4:         x[4][0], x[4][1], x[4][2], x[4][3]
//
// A step takes four columns. Windows of 8 outputs (stride 1) or 4 (stride 2) hold some of them; the
// first half of these are complete behind it:
//
//   stride 1, of the windows' columns:    -4..0  -3..1  -2..2  -1..3   0..4   1..5   2..6   3..7
//   stride 2:                             -4..0  -2..2   0..4   2..6
//
// The weights of row 4 are laid out for each of these windows: w[4][4], 0, 0, 0 for the first one.
//
// Two of the four parts are computed together, so that the other rows' weights fit 10 registers and
// the sums 16 or 8. The words of the last two parts wait in memory for those of the first two.

namespace edgekit {

template <class Registers>
struct Slide5x5Constants {
  __attribute__((noinline)) explicit Slide5x5Constants(const Requantize& requantize)
      : bytes(requantize) {}

  static constexpr size_t kTapBytes = FourTaps::kParts * Registers::kCr;
  static constexpr size_t kMaxWindows = 8;

  const typename Registers::Bytes bytes;
  /// Four rows of each column.
  alignas(64) int8_t w[5 * kTapBytes];
  /// The fifth row for each window.
  alignas(64) int8_t fifth[kMaxWindows * kTapBytes];
  alignas(64) int32_t bias[Registers::kCr];
  alignas(64) float scale[Registers::kCr];
};

template <class Registers, size_t kStride, size_t kSplit>
struct Slide5x5 {
  using Constants = Slide5x5Constants<Registers>;
  static constexpr size_t kKernel = 5;
  static constexpr size_t kGroups = 2;
  static constexpr size_t kParts = FourTaps::kParts;
  static constexpr size_t kHalf = 2;
  static constexpr size_t kCr = Registers::kCr;
  static constexpr size_t kLanes = kCr / kParts;
  static constexpr size_t kTapBytes = Constants::kTapBytes;
  /// Columns of a step.
  static constexpr size_t kColumns = 4;
  /// Windows that hold some of them, and those that a step completes.
  static constexpr size_t kWindows = 8 / kStride;
  static constexpr size_t kDone = kWindows / 2;
  /// A tap whose weights are read from memory, since loading several rows takes one register more.
  static constexpr size_t kTapInMemory = kStride == 1 && kSplit > 1 ? 4 : kKernel;
  /// Outputs of a row whose words fit the stack.
  static constexpr size_t kMaxOutputs = 112;

  /// Returns the tap of a window that meets a column of a step; one of 0 to 4, or none.
  static constexpr size_t tap(size_t window, size_t column) {
    return column + kColumns - window * kStride;
  }

  static __attribute__((noinline)) void prepare(const DepthwiseArgs& args, const int8_t* w,
                                                size_t channel, Constants& constants) {
    copy_in_order_of_parts<Registers>(args.bias + channel, constants.bias);
    copy_in_order_of_parts<Registers>(args.requantize.scale + channel, constants.scale);
    for (size_t part = 0; part < kParts; ++part) {
      const size_t offset = part * kCr;
      int32_t* bias = constants.bias + part * kLanes;
      float* scale = constants.scale + part * kLanes;
      Registers::store(bias, load_constants<Registers, kSplit>(bias));
      Registers::store(scale, load_constants<Registers, kSplit>(scale));
      __m512i fifth[kKernel];
#pragma GCC unroll 5
      for (size_t s = 0; s < kKernel; ++s) {
        const int8_t* from = w + s * kGroups * kTapBytes + offset;
        Registers::store(constants.w + s * kTapBytes + offset,
                         load_constants<Registers, kSplit>(from));
        fifth[s] = load_constants<Registers, kSplit>(from + kTapBytes);
      }
#pragma GCC unroll 8
      for (size_t window = 0; window < kWindows; ++window) {
        __m512i taps = _mm512_setzero_si512();
#pragma GCC unroll 4
        for (size_t column = 0; column < kColumns; ++column) {
          if (tap(window, column) >= kKernel) continue;
          const __m512i w_5 = fifth[tap(window, column)];
          taps = _mm512_or_si512(taps, _mm512_slli_epi32(w_5, 8 * static_cast<unsigned>(column)));
        }
        Registers::store(constants.fifth + window * kTapBytes + offset, taps);
      }
    }
  }

  /// Keeps the loads behind it, and so their registers, behind what comes before.
  static __attribute__((always_inline)) void hold_loads() { __asm__ volatile("" : : : "memory"); }

  /// Interleaves the bytes of two rows, or of two columns.
  template <size_t kHalfIndex>
  static __attribute__((always_inline)) __m512i pair(__m512i even, __m512i odd) {
    if constexpr (kHalfIndex == 0) return _mm512_unpacklo_epi8(even, odd);
    return _mm512_unpackhi_epi8(even, odd);
  }

  /// Interleaves two pairs.
  static __attribute__((always_inline)) void interleave(__m512i first, __m512i second,
                                                        __m512i (&x)[kHalf]) {
    x[0] = _mm512_unpacklo_epi16(first, second);
    x[1] = _mm512_unpackhi_epi16(first, second);
  }

  __attribute__((always_inline)) __m512i load(size_t r, size_t place) const {
    return load_column<Registers, kSplit>(at, r, place);
  }

  /// Adds rows 0 to 3 of a step's column, x, to windows kWindow to kEnd - 1.
  template <size_t kHalfIndex, size_t kColumn, size_t kWindow, size_t kEnd>
  __attribute__((always_inline)) void add_column(const __m512i (&x)[kHalf]) {
    if constexpr (kWindow < kEnd) {
      constexpr size_t kTap = tap(kWindow, kColumn);
      if constexpr (kTap < kKernel) {
        if constexpr (kTap == kTapInMemory) {
          constexpr size_t kFirst = kTap * kTapBytes + kHalfIndex * kHalf * kCr;
          constexpr size_t kSize = kKernel * kTapBytes;
          Registers::template dot_memory<kFirst, kSize>(acc[kWindow][0], x[0], constants.w);
          Registers::template dot_memory<kFirst + kCr, kSize>(acc[kWindow][1], x[1], constants.w);
        } else {
          Registers::dot(acc[kWindow][0], x[0], w[kTap][0]);
          Registers::dot(acc[kWindow][1], x[1], w[kTap][1]);
        }
      }
      add_column<kHalfIndex, kColumn, kWindow + 1, kEnd>(x);
    }
  }

  /// Adds row 4 of a step, x, to windows kWindow to kEnd - 1.
  template <size_t kHalfIndex, size_t kWindow, size_t kEnd>
  __attribute__((always_inline)) void add_fifth(const __m512i (&x)[kHalf]) {
    if constexpr (kWindow < kEnd) {
      constexpr size_t kSize = kWindows * kTapBytes;
      constexpr size_t kFirst = kWindow * kTapBytes + kHalfIndex * kHalf * kCr;
      Registers::template dot_memory<kFirst, kSize>(acc[kWindow][0], x[0], constants.fifth);
      Registers::template dot_memory<kFirst + kCr, kSize>(acc[kWindow][1], x[1], constants.fifth);
      add_fifth<kHalfIndex, kWindow + 1, kEnd>(x);
    }
  }

  template <size_t kHalfIndex, size_t kColumn, size_t kBegin, size_t kEnd, bool kInside>
  __attribute__((always_inline)) void add_columns() {
    if constexpr (kColumn < kColumns) {
      if (kInside || column + kColumn < at.in_width) {
        hold_loads();
        const __m512i rows_01 = pair<kHalfIndex>(load(0, offset), load(1, offset));
        hold_loads();
        const __m512i rows_23 = pair<kHalfIndex>(load(2, offset), load(3, offset));
        __m512i x[kHalf];
        interleave(rows_01, rows_23, x);
        add_column<kHalfIndex, kColumn, kBegin, kEnd>(x);
      } else if (at.zero != 0) {
        const __m512i zero = splat_rarely(at.zero);
        const __m512i x[kHalf] = {zero, zero};
        add_column<kHalfIndex, kColumn, kBegin, kEnd>(x);
      }
      offset += at.channels;
      __asm__ volatile("" : "+r"(offset));
      add_columns<kHalfIndex, kColumn + 1, kBegin, kEnd, kInside>();
    }
  }

  /// Adds the next four columns to windows kBegin to kEnd - 1. kInside says that they are inside.
  template <size_t kHalfIndex, size_t kBegin, size_t kEnd, bool kInside>
  __attribute__((always_inline)) void add_step() {
    __m512i from[kColumns];
    size_t place = offset;
#pragma GCC unroll 4
    for (size_t c = 0; c < kColumns; ++c) {
      if (kInside || column + c < at.in_width) {
        from[c] = load(4, place);
      } else {
        from[c] = splat_rarely(at.zero);
      }
      place += at.channels;
    }
    __m512i x[kHalf];
    interleave(pair<kHalfIndex>(from[0], from[1]), pair<kHalfIndex>(from[2], from[3]), x);
    add_fifth<kHalfIndex, kBegin, kEnd>(x);
    add_columns<kHalfIndex, 0, kBegin, kEnd, kInside>();
    column += kColumns;
  }

  template <size_t kHalfIndex, size_t kBegin, size_t kEnd>
  __attribute__((always_inline)) void begin() {
    // Or GCC keeps the biases in registers, of which there are too few.
    hold_loads();
#pragma GCC unroll 8
    for (size_t window = kBegin; window < kEnd; ++window) {
#pragma GCC unroll 2
      for (size_t part = 0; part < kHalf; ++part) {
        acc[window][part] = Registers::load(constants.bias + (kHalfIndex * kHalf + part) * kLanes);
      }
    }
  }

  /// Stores outputs from kWindow on, of which `left` are wanted.
  template <size_t kHalfIndex, size_t kWindow>
  __attribute__((always_inline)) void finish(size_t left) {
    if constexpr (kWindow < kDone) {
      const float* scale = constants.scale + kHalfIndex * kHalf * kLanes;
      const __m512i here = Registers::words(acc[kWindow][0], acc[kWindow][1], scale,
                                            constants.bytes.constants.zero_point_s16x32);
      if constexpr (kHalfIndex == 1) {
        Registers::store(words + kWindow * kCr, here);
      } else {
        const __m512i there = Registers::load(words + kWindow * kCr);
        store_block<Registers, kSplit>(at, constants.bytes.bytes(here, there));
      }
      if (left > kWindow + 1) finish<kHalfIndex, kWindow + 1>(left);
    }
  }

  /// Stores what a step has completed and makes the other windows the first.
  template <size_t kHalfIndex>
  __attribute__((always_inline)) void advance() {
    finish<kHalfIndex, 0>(kDone);
    words += kDone * kCr;
#pragma GCC unroll 4
    for (size_t window = 0; window < kDone; ++window) {
      acc[window][0] = acc[window + kDone][0];
      acc[window][1] = acc[window + kDone][1];
    }
    begin<kHalfIndex, kDone, kWindows>();
  }

  /// Computes two parts of `outputs` outputs whose first window begins at `first`.
  template <size_t kHalfIndex>
  __attribute__((always_inline)) void walk(size_t first, size_t outputs) {
    column = first;
    offset = first * at.channels;
#pragma GCC unroll 5
    for (size_t s = 0; s < kKernel; ++s) {
#pragma GCC unroll 2
      for (size_t part = 0; part < kHalf; ++part) {
        w[s][part] =
            Registers::load(constants.w + s * kTapBytes + (kHalfIndex * kHalf + part) * kCr);
      }
    }
    begin<kHalfIndex, 0, kDone>();
    // The windows that begin here are moved to the front before the first full step.
    begin<kHalfIndex, kDone, kWindows>();
    add_step<kHalfIndex, kDone, kWindows, false>();
#pragma GCC unroll 4
    for (size_t window = 0; window < kDone; ++window) {
      acc[window][0] = acc[window + kDone][0];
      acc[window][1] = acc[window + kDone][1];
    }
    begin<kHalfIndex, kDone, kWindows>();
    while (outputs > kDone) {
      if (column < at.in_width && at.in_width - column >= kColumns) {
        add_step<kHalfIndex, 0, kWindows, true>();
      } else {
        add_step<kHalfIndex, 0, kWindows, false>();
      }
      advance<kHalfIndex>();
      outputs -= kDone;
    }
    add_step<kHalfIndex, 0, kDone, false>();
    finish<kHalfIndex, 0>(outputs);
  }

  template <size_t kHalfIndex>
  static __attribute__((noinline)) void run_half(const Sliding& at, const Constants& constants,
                                                 size_t first, size_t outputs, uint8_t* words) {
    Slide5x5 slide{at, constants, words, 0, 0, {}, {}};
    slide.template walk<kHalfIndex>(first, outputs);
  }

  static void run(const DepthwiseArgs& args, size_t channel, const Constants& constants) {
    alignas(64) uint8_t words[kMaxOutputs * kCr];
    Sliding at(args, channel);
    for (size_t i = 0; i < args.out_rows; i += kSplit) {
      at.go_to<kKernel, kSplit>(args, channel, i);
      for (size_t begin = 0; begin < args.out_width; begin += kMaxOutputs) {
        const size_t left = args.out_width - begin;
        const size_t outputs = left < kMaxOutputs ? left : kMaxOutputs;
        const size_t first = begin * kStride - args.pad_left;
        run_half<1>(at, constants, first, outputs, words);
        run_half<0>(at, constants, first, outputs, words);
        for (size_t s = 0; s < kSplit; ++s) at.y[s] += outputs * args.channels;
      }
    }
  }

  Sliding at;
  const Constants& constants;
  uint8_t* words;
  /// The next column, which wraps around left of the row, and its place there.
  size_t column;
  size_t offset;
  __m512i w[kKernel][kHalf];
  __m512i acc[kWindows][kHalf];
};

}  // namespace edgekit
