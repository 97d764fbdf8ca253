#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/depthwise.h"
#include "kernels/requantize_x86_avx2.h"

// What the kernels with 256-bit registers share for 3x3 and 5x5 with stride 1 and 2. Interleaved
// values of 32 channels stand in four parts, as four_taps_x86.h describes them; one or two parts of
// an output row are computed at a time, as many as 16 registers have room for.
//
// A step takes four columns. All rows of a window that fill whole registers are interleaved down
// each column. A row left over is interleaved along the four columns, so that it takes fewer
// products:
//
//   4 taps to a register:   3x3: 3 rows and a tap of 0       5x5: 4 rows, and the fifth along
//   2 taps to a register:   3x3: 2 rows, and the third along 5x5: 4 rows, and the fifth along
//
// Windows of kLive outputs hold some of the four columns; the first kDone of these are complete
// behind a step, and kCarry wait for more:
//
//   3x3, stride 1:   -2..0  -1..1   0..2   1..3   2..4   3..5
//   3x3, stride 2:   -2..0   0..2   2..4
//   5x5, stride 1:   -4..0  -3..1  -2..2  -1..3   0..4   1..5   2..6   3..7
//   5x5, stride 2:   -4..0  -2..2   0..4   2..6
//
// Registers is a class in its file's anonymous namespace, through which everything here has
// internal linkage too:
//
//   kTaps                              taps that a product sums up, 4 or 2
//   kMaxSums                           sums that there are registers for
//   kMaxWeights                        weights that there are registers for beside 8 sums
//   lanes(args, channel)               16 channels each that may be read of biases and multipliers
//   weights(args, w, s, group, part, lanes)
//                                      a part's taps kTaps * group, ... of column s
//   interleave<part>(from, x)          interleaves vectors of 32 bytes: x[i] is part + i
//   dot(acc, x, w)                     acc[c] += sum over kTaps of x * w
//   dot_memory<offset, size>(acc, x, w)
//                                      the same with weights at w + offset
//   splat(byte)                        what interleaving that byte makes

namespace edgekit {

constexpr size_t kPartBytes = 32;

/// Returns the stored values of 32 channels from words of parts 0 and 1 and words of parts 2 and 3.
static inline __m256i join_words(const RequantizePairs& constants, __m256i words_0_s16x16,
                                 __m256i words_1_s16x16) {
  const __m256i above =
      _mm256_max_epu8(_mm256_packus_epi16(words_0_s16x16, words_1_s16x16), constants.lowest_u8x32);
  return _mm256_min_epu8(above, constants.highest_u8x32);
}

/// Copies the first `size` <= 32 bytes.
static inline void copy_some(uint8_t* to, const uint8_t* from, size_t size) {
  if (size < 16) return copy_bytes(to, from, size);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  if (size != 16) copy_bytes(to + 16, from + 16, size - 16);
}

/// What the output rows of one block of channels share.
template <class Registers, size_t kKernel>
struct PartConstants {
  static constexpr size_t kTaps = Registers::kTaps;
  static constexpr size_t kParts = 4;
  /// Registers that the rows down a column take, and a row along four columns.
  static constexpr size_t kDown = kTaps == 4 ? 1 : kKernel / kTaps;
  static constexpr size_t kAlong = kDown * kTaps < kKernel ? 4 / kTaps : 0;
  static constexpr size_t kRowsDown = kAlong == 0 ? kKernel : kKernel - 1;
  static constexpr size_t kMaxLive = 8;

  /// Bytes from one part to the next.
  static constexpr size_t kDownBytes = kKernel * kDown * kPartBytes;
  static constexpr size_t kAlongBytes = kMaxLive * kAlong * kPartBytes;

  RequantizePairs requantize;
  /// [part][column][kDown]
  alignas(32) int8_t down[kParts * kDownBytes];
  /// [part][window][kAlong]; never empty.
  alignas(32) int8_t along[kParts * kAlongBytes + kPartBytes];
  /// [part][8]
  alignas(32) int32_t bias[kPartBytes];
  alignas(32) float scale[kPartBytes];
};

/// Copies values of 16 channels a lane in the order of parts; missing lanes are zeros.
template <class Registers, class T>
__attribute__((noinline)) void copy_lanes(const T* from, size_t lanes, T* to) {
  for (size_t part = 0; part < 4; ++part) {
    for (size_t lane = 0; lane < 2; ++lane, to += 4) {
      for (size_t c = 0; c < 4; ++c) to[c] = lane < lanes ? from[lane * 16 + part * 4 + c] : T{0};
    }
  }
}

/// One block of channels of an output row, and the results of parts that wait for others.
struct PartRow {
  static constexpr size_t kMaxKernel = 5;
  /// Outputs of a row whose results fit the stack.
  static constexpr size_t kMaxOutputs = 112;

  size_t channels;
  size_t in_width;
  /// Zero points of the block's channels.
  const uint8_t* zeros;
  /// At the block's first channel.
  const uint8_t* rows[kMaxKernel];
  /// Where 32 bytes of each output go: y_step bytes apart.
  uint8_t* y;
  size_t y_step;
  /// Column of the first output's window, which wraps around left of the row.
  size_t first;
  size_t outputs;
  /// Rounded products of part 0 or 2, words of parts 0 and 1, and the results of a last block that
  /// is narrower than a register.
  alignas(32) int32_t products[kMaxOutputs * 8];
  alignas(32) int16_t words[kMaxOutputs * 16];
  alignas(32) uint8_t bytes[kMaxOutputs * kPartBytes];
};

template <class Registers, size_t kKernel, size_t kStride>
struct SlideParts {
  using Constants = PartConstants<Registers, kKernel>;
  static constexpr size_t kColumns = 4;
  static constexpr size_t kDone = kColumns / kStride;
  static constexpr size_t kCarry = (kKernel - 1) / kStride;
  static constexpr size_t kLive = kCarry + kDone;
  static constexpr size_t kTaps = Constants::kTaps;
  static constexpr size_t kDown = Constants::kDown;
  static constexpr size_t kAlong = Constants::kAlong;
  static constexpr size_t kRowsDown = Constants::kRowsDown;
  /// Parts that are computed together.
  static constexpr size_t kTogether = 2 * kLive <= Registers::kMaxSums ? 2 : 1;
  /// Columns whose weights stay in registers.
  static constexpr size_t kKept = kTogether == 2 || kDown == 2       ? 0
                                  : kKernel < Registers::kMaxWeights ? kKernel
                                                                     : Registers::kMaxWeights;

  /// Returns the tap of a window that meets a column of a step; 0 to kKernel - 1, or none.
  static constexpr size_t tap(size_t window, size_t column) {
    return column + kCarry * kStride - window * kStride;
  }

  static __attribute__((noinline)) void prepare(const DepthwiseArgs& args, const int8_t* w,
                                                size_t channel, Constants& constants) {
    const size_t lanes = Registers::lanes(args, channel);
    copy_lanes<Registers>(args.bias + channel, lanes, constants.bias);
    copy_lanes<Registers>(args.requantize.scale + channel, lanes, constants.scale);
    const auto store = [](int8_t* to, __m256i v) {
      _mm256_store_si256(reinterpret_cast<__m256i*>(to), v);
    };
    for (size_t part = 0; part < Constants::kParts; ++part) {
      int8_t* down = constants.down + part * Constants::kDownBytes;
      for (size_t s = 0; s < kKernel; ++s) {
        for (size_t v = 0; v < kDown; ++v, down += kPartBytes) {
          store(down, Registers::weights(args, w, s, v, part, lanes));
        }
      }
      if constexpr (kAlong == 0) continue;
      int8_t* along = constants.along + part * Constants::kAlongBytes;
      for (size_t window = 0; window < kLive; ++window) {
        for (size_t v = 0; v < kAlong; ++v, along += kPartBytes) {
          __m256i taps = _mm256_setzero_si256();
          for (size_t c = 0; c < kTaps; ++c) {
            const size_t s = tap(window, v * kTaps + c);
            if (s >= kKernel) continue;
            const __m256i last = Registers::weights(args, w, s, kDown, part, lanes);
            const auto bits = static_cast<int>(32 / kTaps * c);
            taps = _mm256_or_si256(taps, _mm256_slli_epi32(last, bits));
          }
          store(along, taps);
        }
      }
    }
  }

  /// Keeps the loads behind it, and so their registers, behind what comes before.
  static __attribute__((always_inline)) void hold_loads() { __asm__ volatile("" : : : "memory"); }

  __attribute__((always_inline)) __m256i load(size_t r, size_t place) const {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[r] + place));
  }

  /// Adds the rows down a step's column, x, to windows kWindow to kEnd - 1.
  template <size_t kPart, size_t kColumn, size_t kWindow, size_t kEnd>
  __attribute__((always_inline)) void add_down(const __m256i (&x)[kTogether][kDown]) {
    if constexpr (kWindow < kEnd) {
      constexpr size_t kTap = tap(kWindow, kColumn);
      if constexpr (kTap < kKernel) {
        if constexpr (kTap < kKept) {
          Registers::dot(acc[kWindow][0], x[0][0], w[kTap]);
        } else {
          constexpr size_t kOffset = kPart * Constants::kDownBytes + kTap * kDown * kPartBytes;
          add_down_part<kOffset, 0>(acc[kWindow][0], x[0]);
          if constexpr (kTogether == 2) {
            add_down_part<kOffset + Constants::kDownBytes, 0>(acc[kWindow][1], x[1]);
          }
        }
      }
      add_down<kPart, kColumn, kWindow + 1, kEnd>(x);
    }
  }

  template <size_t kOffset, size_t kVector>
  __attribute__((always_inline)) void add_down_part(__m256i& sums, const __m256i (&x)[kDown]) {
    if constexpr (kVector < kDown) {
      Registers::template dot_memory<kOffset, sizeof(Constants::down)>(sums, x[kVector],
                                                                       constants.down);
      add_down_part<kOffset + kPartBytes, kVector + 1>(sums, x);
    }
  }

  /// Adds columns kFirst to kFirst + kTaps - 1 of the row along a step, x, to windows kWindow to
  /// kEnd - 1.
  template <size_t kPart, size_t kFirst, size_t kWindow, size_t kEnd>
  __attribute__((always_inline)) void add_along(const __m256i (&x)[kTogether][1]) {
    if constexpr (kWindow < kEnd) {
      constexpr bool kAny = tap(kWindow, kFirst) < kKernel || tap(kWindow, kFirst + 1) < kKernel ||
                            (kTaps == 4 && (tap(kWindow, kFirst + 2) < kKernel ||
                                            tap(kWindow, kFirst + 3) < kKernel));
      if constexpr (kAny) {
        constexpr size_t kOffset =
            kPart * Constants::kAlongBytes + (kWindow * kAlong + kFirst / kTaps) * kPartBytes;
        constexpr size_t kSize = sizeof(Constants::along);
        Registers::template dot_memory<kOffset, kSize>(acc[kWindow][0], x[0][0], constants.along);
        if constexpr (kTogether == 2) {
          Registers::template dot_memory<kOffset + Constants::kAlongBytes, kSize>(
              acc[kWindow][1], x[1][0], constants.along);
        }
      }
      add_along<kPart, kFirst, kWindow + 1, kEnd>(x);
    }
  }

  template <size_t kPart, size_t kColumn, size_t kBegin, size_t kEnd, bool kInside>
  __attribute__((always_inline)) void add_columns() {
    if constexpr (kColumn < kColumns) {
      if (kInside || column + kColumn < in_width) {
        hold_loads();
        __m256i from[kRowsDown];
#pragma GCC unroll 4
        for (size_t r = 0; r < kRowsDown; ++r) from[r] = load(r, offset);
        __m256i x[kTogether][kDown];
        Registers::template interleave<kPart>(from, x);
        add_down<kPart, kColumn, kBegin, kEnd>(x);
      } else if (*zeros != 0) {
        __m256i x[kTogether][kDown];
#pragma GCC unroll 2
        for (auto& part : x) {
#pragma GCC unroll 2
          for (__m256i& v : part) v = Registers::splat(*zeros);
        }
        add_down<kPart, kColumn, kBegin, kEnd>(x);
      }
      offset += channels;
      __asm__ volatile("" : "+r"(offset));
      add_columns<kPart, kColumn + 1, kBegin, kEnd, kInside>();
    }
  }

  /// Adds columns kFirst to 3 of the row along the next step to windows kBegin to kEnd - 1.
  template <size_t kPart, size_t kFirst, size_t kBegin, size_t kEnd, bool kInside>
  __attribute__((always_inline)) void add_last_row() {
    if constexpr (kFirst < kColumns) {
      hold_loads();
      __m256i from[kTaps];
#pragma GCC unroll 4
      for (size_t c = 0; c < kTaps; ++c) {
        const bool inside = kInside || column + kFirst + c < in_width;
        const uint8_t* at = inside ? rows[kKernel - 1] + (offset + (kFirst + c) * channels) : zeros;
        from[c] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at));
      }
      __m256i x[kTogether][1];
      Registers::template interleave<kPart>(from, x);
      add_along<kPart, kFirst, kBegin, kEnd>(x);
      add_last_row<kPart, kFirst + kTaps, kBegin, kEnd, kInside>();
    }
  }

  /// Adds the next four columns to windows kBegin to kEnd - 1. kInside says that they are inside.
  template <size_t kPart, size_t kBegin, size_t kEnd, bool kInside>
  __attribute__((always_inline)) void add_step() {
    if constexpr (kAlong != 0) add_last_row<kPart, 0, kBegin, kEnd, kInside>();
    add_columns<kPart, 0, kBegin, kEnd, kInside>();
    column += kColumns;
  }

  template <size_t kPart, size_t kBegin>
  __attribute__((always_inline)) void begin() {
    hold_loads();
#pragma GCC unroll 8
    for (size_t window = kBegin; window < kLive; ++window) {
#pragma GCC unroll 2
      for (size_t p = 0; p < kTogether; ++p) {
        acc[window][p] =
            _mm256_load_si256(reinterpret_cast<const __m256i*>(constants.bias + (kPart + p) * 8));
      }
    }
  }

  /// Stores what windows kWindow to kEnd - 1 have summed up, while outputs are wanted.
  template <size_t kPart, size_t kWindow, size_t kEnd>
  __attribute__((always_inline)) void finish() {
    if constexpr (kWindow < kEnd) {
      const __m256i here = rounded_product(acc[kWindow][0], constants.scale + kPart * 8);
      if constexpr (kTogether == 2) {
        finish_half<kPart == 2>(
            here, rounded_product(acc[kWindow][kTogether - 1], constants.scale + kPart * 8 + 8));
      } else if constexpr (kPart % 2 == 0) {
        _mm256_store_si256(products++, here);
      } else {
        finish_half<kPart == 3>(_mm256_load_si256(products++), here);
      }
      if (--outputs != 0) finish<kPart, kWindow + 1, kEnd>();
    }
  }

  template <bool kLast>
  __attribute__((always_inline)) void finish_half(__m256i first_s32x8, __m256i second_s32x8) {
    const __m256i both = _mm256_adds_epi16(_mm256_packs_epi32(first_s32x8, second_s32x8),
                                           constants.requantize.zero_point_s16x16);
    if constexpr (kLast) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(y),
                          join_words(constants.requantize, _mm256_load_si256(words++), both));
      y += y_step;
    } else {
      _mm256_store_si256(words++, both);
    }
  }

  /// Makes windows that wait for columns the first.
  template <size_t kPart>
  __attribute__((always_inline)) void advance() {
#pragma GCC unroll 4
    for (size_t window = 0; window < kCarry; ++window) {
#pragma GCC unroll 2
      for (size_t p = 0; p < kTogether; ++p) acc[window][p] = acc[window + kDone][p];
    }
    begin<kPart, kCarry>();
  }

  template <size_t kPart>
  __attribute__((always_inline)) void walk() {
#pragma GCC unroll 5
    for (size_t s = 0; s < kKept; ++s) {
      w[s] = _mm256_load_si256(reinterpret_cast<const __m256i*>(
          constants.down + kPart * Constants::kDownBytes + s * kPartBytes));
    }
    begin<kPart, 0>();
    add_step<kPart, kCarry, kLive, false>();
    if constexpr (kCarry < kDone) {
      finish<kPart, kCarry, kDone>();
      if (outputs == 0) return;
    }
    advance<kPart>();
    while (outputs > kDone) {
      if (column < in_width && in_width - column >= kColumns) {
        add_step<kPart, 0, kLive, true>();
      } else {
        add_step<kPart, 0, kLive, false>();
      }
      finish<kPart, 0, kDone>();
      advance<kPart>();
    }
    add_step<kPart, 0, kDone, false>();
    finish<kPart, 0, kDone>();
  }

  template <size_t kPart>
  static __attribute__((noinline)) void run_part(PartRow& row, const Constants& constants) {
    SlideParts slide{constants,
                     row.channels,
                     row.in_width,
                     row.zeros,
                     {},
                     row.y,
                     row.y_step,
                     reinterpret_cast<__m256i*>(row.products),
                     reinterpret_cast<__m256i*>(row.words),
                     row.outputs,
                     row.first,
                     row.first * row.channels,
                     {},
                     {}};
#pragma GCC unroll 5
    for (size_t r = 0; r < kKernel; ++r) slide.rows[r] = row.rows[r];
    slide.template walk<kPart>();
  }

  /// Runs a whole call.
  static void run(const DepthwiseArgs& args) {
    constexpr size_t kGroups = (kKernel + kTaps - 1) / kTaps;
    Constants constants;
    constants.requantize = requantize_pairs(args.requantize);
    const int8_t* w = args.w;
    PartRow row;
    row.channels = args.channels;
    row.in_width = args.in_width;
    for (size_t channel = 0; channel < args.channels; channel += kPartBytes) {
      prepare(args, w, channel, constants);
      const size_t left = args.channels - channel;
      const bool whole = left >= kPartBytes;
      row.zeros = args.zero + channel;
      row.y_step = whole ? args.channels : kPartBytes;
      for (size_t i = 0; i < args.out_rows; ++i) {
        for (size_t r = 0; r < kKernel; ++r) {
          row.rows[r] = args.rows[i * args.stride_h + r * args.dilation_h] + channel;
        }
        for (size_t begin = 0; begin < args.out_width; begin += PartRow::kMaxOutputs) {
          const size_t wanted = args.out_width - begin;
          row.outputs = wanted < PartRow::kMaxOutputs ? wanted : PartRow::kMaxOutputs;
          row.first = begin * kStride - args.pad_left;
          uint8_t* y = args.y + i * args.y_stride + begin * args.channels + channel;
          row.y = whole ? y : row.bytes;
          run_part<0>(row, constants);
          if constexpr (kTogether == 1) run_part<1>(row, constants);
          run_part<2>(row, constants);
          if constexpr (kTogether == 1) run_part<3>(row, constants);
          if (whole) continue;
          for (size_t j = 0; j < row.outputs; ++j) {
            copy_some(y + j * args.channels, row.bytes + j * kPartBytes, left);
          }
        }
      }
      w += args.kernel_w * kGroups * kPartBytes * kTaps;
    }
  }

  const Constants& constants;
  /// What PartRow says, in registers.
  size_t channels;
  size_t in_width;
  const uint8_t* zeros;
  const uint8_t* rows[kKernel];
  uint8_t* y;
  size_t y_step;
  __m256i* products;
  __m256i* words;
  /// Outputs that are still to be stored.
  size_t outputs;
  /// The next column, which wraps around left of the row, and its place there.
  size_t column;
  size_t offset;
  __m256i w[kKept == 0 ? 1 : kKept];
  __m256i acc[kLive][kTogether];
};

/// Returns the function for the windows that slide, null for others.
template <class Registers>
auto find_slide(const DepthwiseArgs& args) -> void (*)(const DepthwiseArgs&) {
  if (args.kernel_h != args.kernel_w || args.dilation_w != 1) return nullptr;
  if (args.requantize.residual != nullptr) return nullptr;
  if (!products_fit_int32(args.requantize.scale, args.channels)) return nullptr;
  if (args.kernel_h == 3 && args.stride_w == 1) return SlideParts<Registers, 3, 1>::run;
  if (args.kernel_h == 3 && args.stride_w == 2) return SlideParts<Registers, 3, 2>::run;
  if (args.kernel_h == 5 && args.stride_w == 1) return SlideParts<Registers, 5, 1>::run;
  if (args.kernel_h == 5 && args.stride_w == 2) return SlideParts<Registers, 5, 2>::run;
  return nullptr;
}

}  // namespace edgekit
