#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/depthwise/depthwise.h"

// What the depthwise kernels on vpdpbusd share. A block is as many channels as a register has
// bytes. Four vertical taps of it are interleaved by unpacking bytes and then pairs of bytes, which
// stay within 128 bits, and so make four parts whose channels are those of pack_depthwise():
//
//   column x, part a, lane l, dword d:   x[row 0][c], x[row 1][c], x[row 2][c], x[row 3][c]
//                                        c = 16 l + 4 a + d
//
// Packing sums to 16 bits and those to bytes, which stays within 128 bits too, puts the channels
// back in order.
//
// Each column of the input is interleaved once into scratch on the stack, one register a part for
// each group of four rows, and then read by all kernel_w taps. Where a group has a row to spare
// (3x3 and 5x5 with stride 1), the same bytes serve the output row below, with weights moved down
// by one tap:
//
//   output row i:      w0 w1 w2 0          output row i + 1:      0 w0 w1 w2
//
// A tile of 1 or 2 output rows by up to kTile pixels is computed in halves of two parts each, which
// leaves room for more pixels in registers.
//
// An instruction set's part is a class in its file's anonymous namespace, through which everything
// here has internal linkage too:
//
//   Vector                        a register
//   kCr                           bytes of a register, channels of a block
//   kTile<rows>                   pixels of a tile of 1 or 2 output rows
//   load(p)                       loads a register
//   store(p, v)                   stores one at a multiple of 64
//   dot(acc, x, w)                acc[c] += sum over 4 of x (u8) * w (s8)
//   move_down(w, above)           dword c: the last byte of above[c], then the first 3 of w[c]
//   interleave(rows, offset, to)  interleaves the channels at rows[0..3] + offset
//   products_fit(args)            whether words() may be used; there is no residual
//   words(acc_0, acc_1, scale, zero_point)
//                                 requantizes two parts to stored values in 16 bits, in one
//                                 register
//   Bytes(requantize)             what store() needs: .store(y, words_0, words_1, count) stores the
//                                 first `count` channels of both halves
//   store_sums(args, i, j, channel, sums)
//                                 stores a pixel's sums of 16 channels (or as many as there are),
//                                 which lie four by four kCr / 4 apart, in every case

namespace edgekit {

struct FourTaps {
  static constexpr size_t kKr = 4;
  static constexpr size_t kParts = 4;
  /// Parts that are computed together.
  static constexpr size_t kHalf = 2;
  /// Bytes of interleaved columns on the stack.
  static constexpr size_t kScratch = 16384;
  /// Columns of weights of one channel block that can be moved down for the second output row.
  static constexpr size_t kMovedWeights = 16;
  /// Outputs of the largest tile.
  static constexpr size_t kMaxTile = 2 * 7;

  const DepthwiseArgs& args;
  /// Groups of four rows that cover kernel_h taps.
  size_t groups;
  /// Rows that one output row, or two, need: kernel_h or kernel_h + 1.
  size_t taps;
  /// Whether sums are requantized in registers.
  bool in_registers;
};

/// Room on the stack of one call.
template <class Registers>
struct FourTapsScratch {
  static constexpr size_t kColumnBytes = Registers::kCr * FourTaps::kKr;
  /// Interleaved columns that fit, counted for all groups together.
  static constexpr size_t kColumns = FourTaps::kScratch / kColumnBytes;

  alignas(64) uint8_t columns[FourTaps::kScratch];
  alignas(64) int8_t moved[FourTaps::kMovedWeights * kColumnBytes];
  /// Of one block, in the order of its parts.
  alignas(64) int32_t bias[Registers::kCr];
  alignas(64) float scale[Registers::kCr];
  /// Of a tile: [half][output][kCr / 2] words, or [output][kCr] sums.
  alignas(64) int32_t results[FourTaps::kMaxTile * Registers::kCr];
};

/// Points to four rows of `group`; those past the last tap meet zero weights and repeat the first.
static inline void group_rows(const FourTaps& shape, const uint8_t* const* rows, size_t group,
                              const uint8_t** four) {
  for (size_t l = 0; l < FourTaps::kKr; ++l) {
    const size_t tap = group * FourTaps::kKr + l;
    four[l] = rows[tap < shape.taps ? tap * shape.args.dilation_h : 0];
  }
}

/// Copies the values of a block's channels in the order of its parts.
template <class Registers, class T>
__attribute__((noinline)) void copy_in_order_of_parts(const T* from, T* to) {
  constexpr size_t kLanes = Registers::kCr / 16;
  for (size_t part = 0; part < FourTaps::kParts; ++part) {
    for (size_t lane = 0; lane < kLanes; ++lane, to += 4) {
      __builtin_memcpy(to, from + lane * 16 + part * 4, 4 * sizeof(T));
    }
  }
}

/// Moves one block's weights down by a tap, from each group into the next.
template <class Registers>
__attribute__((noinline)) void move_weights(const FourTaps& shape, const int8_t* w, int8_t* moved) {
  using Vector = typename Registers::Vector;
  for (size_t s = 0; s < shape.args.kernel_w; ++s) {
    Vector above[FourTaps::kParts] = {};
    for (size_t group = 0; group < shape.groups; ++group) {
#pragma GCC unroll 4
      for (size_t part = 0; part < FourTaps::kParts; ++part) {
        const Vector here = Registers::load(w);
        Registers::store(moved, Registers::move_down(here, above[part]));
        above[part] = here;
        w += Registers::kCr;
        moved += Registers::kCr;
      }
    }
  }
}

template <class Registers>
void copy_column(const uint8_t* from, uint8_t* to) {
#pragma GCC unroll 4
  for (size_t part = 0; part < FourTaps::kParts; ++part) {
    Registers::store(to + part * Registers::kCr, Registers::load(from + part * Registers::kCr));
  }
}

/// Interleaves `count` input columns from `first` (which wraps around left of the row) into
/// scratch, kColumns / groups columns a group apart.
template <class Registers>
__attribute__((noinline)) void interleave_columns(const FourTaps& shape, const uint8_t* const* rows,
                                                  size_t channel, size_t first, size_t count,
                                                  uint8_t* scratch) {
  constexpr size_t kColumnBytes = FourTapsScratch<Registers>::kColumnBytes;
  const DepthwiseArgs& args = shape.args;
  const uint8_t* const zero[] = {args.zero, args.zero, args.zero, args.zero};
  // Of the columns, [0, left) and [right, count) are outside the row.
  const size_t to_row = first < args.in_width ? 0 : 0 - first;
  const size_t left = to_row < count ? to_row : count;
  const size_t to_end = args.in_width - first;
  const size_t right = to_end < left ? left : to_end < count ? to_end : count;
  const size_t group_bytes = FourTapsScratch<Registers>::kColumns / shape.groups * kColumnBytes;
  for (size_t group = 0; group < shape.groups; ++group) {
    const uint8_t* four[FourTaps::kKr];
    group_rows(shape, rows, group, four);
    uint8_t* to = scratch + group * group_bytes;
    size_t column = 0;
    for (; column < left; ++column, to += kColumnBytes) Registers::interleave(zero, channel, to);
    size_t offset = (first + column) * args.channels + channel;
    for (; column < right; ++column, to += kColumnBytes, offset += args.channels) {
      Registers::interleave(four, offset, to);
    }
    for (; column < count; ++column, to += kColumnBytes) Registers::interleave(zero, channel, to);
  }
}

/// Adds one column of weights times a column of each pixel to two parts of a tile's sums.
template <class Registers, size_t kRows, size_t kPixels>
__attribute__((always_inline)) inline void add_taps(
    const int8_t* w, const int8_t* moved, const uint8_t* column, size_t pixel_bytes,
    typename Registers::Vector (&acc)[kRows][kPixels][FourTaps::kHalf]) {
#pragma GCC unroll 2
  for (size_t part = 0; part < FourTaps::kHalf; ++part) {
    // Keeps loads, and so their registers, behind the products before.
    __asm__ volatile("" : : : "memory");
    const auto w_0 = Registers::load(w + part * Registers::kCr);
    const auto w_1 = kRows == 2 ? Registers::load(moved + part * Registers::kCr) : w_0;
#pragma GCC unroll 8
    for (size_t p = 0; p < kPixels; ++p) {
      const auto x_p = Registers::load(column + p * pixel_bytes + part * Registers::kCr);
      Registers::dot(acc[0][p][part], x_p, w_0);
      if constexpr (kRows == 2) Registers::dot(acc[1][p][part], x_p, w_1);
    }
  }
}

/// Computes two parts of a tile of kRows by kPixels outputs: words into their half of
/// scratch.results, or sums. `w`, `moved` and `x`, the scratch of the first pixel's first column,
/// are those of the first of the two parts. A kGroups other than 0 says how many groups there are,
/// 1 or 2, and that stride and dilation are 1.
template <class Registers, size_t kRows, size_t kPixels, size_t kGroups>
__attribute__((noinline)) void compute_half(const FourTaps& shape, const int8_t* w,
                                            const int8_t* moved, const uint8_t* x, size_t half,
                                            FourTapsScratch<Registers>& scratch) {
  constexpr size_t kCr = Registers::kCr;
  constexpr size_t kColumnBytes = FourTapsScratch<Registers>::kColumnBytes;
  constexpr size_t kLanes = kCr / FourTaps::kParts;
  constexpr size_t kHalf = FourTaps::kHalf;
  const DepthwiseArgs& args = shape.args;
  typename Registers::Vector acc[kRows][kPixels][kHalf];
#pragma GCC unroll 2
  for (size_t part = 0; part < kHalf; ++part) {
    const typename Registers::Vector bias =
        Registers::load(scratch.bias + (half * kHalf + part) * kLanes);
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (size_t p = 0; p < kPixels; ++p) acc[r][p][part] = bias;
    }
  }

  if constexpr (kGroups != 0) {
    constexpr size_t kGroupBytes = FourTapsScratch<Registers>::kColumns / kGroups * kColumnBytes;
    for (size_t s = args.kernel_w; s > 0; --s, x += kColumnBytes) {
      add_taps<Registers>(w, moved, x, kColumnBytes, acc);
      if constexpr (kGroups == 2) {
        add_taps<Registers>(w + kColumnBytes, moved + kColumnBytes, x + kGroupBytes, kColumnBytes,
                            acc);
      }
      w += kGroups * kColumnBytes;
      moved += kGroups * kColumnBytes;
    }
  } else {
    const size_t group_bytes = FourTapsScratch<Registers>::kColumns / shape.groups * kColumnBytes;
    for (size_t s = 0; s < args.kernel_w; ++s) {
      const uint8_t* column = x + s * args.dilation_w * kColumnBytes;
      for (size_t group = 0; group < shape.groups; ++group) {
        add_taps<Registers>(w, moved, column, args.stride_w * kColumnBytes, acc);
        column += group_bytes;
        w += kColumnBytes;
        if constexpr (kRows == 2) moved += kColumnBytes;
      }
    }
  }

  if (shape.in_registers) {
    const auto zero_point = Registers::splat_words(args.requantize.zero_point);
    const float* scale = scratch.scale + half * kHalf * kLanes;
    int32_t* words = scratch.results + half * FourTaps::kMaxTile * kLanes;
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (size_t p = 0; p < kPixels; ++p) {
        Registers::store(words + (r * kPixels + p) * kLanes,
                         Registers::words(acc[r][p][0], acc[r][p][1], scale, zero_point));
      }
    }
    return;
  }
  int32_t* sums = scratch.results + half * kHalf * kLanes;
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (size_t p = 0; p < kPixels; ++p) {
#pragma GCC unroll 2
      for (size_t part = 0; part < kHalf; ++part) {
        Registers::store(sums + (r * kPixels + p) * kCr + part * kLanes, acc[r][p][part]);
      }
    }
  }
}

/// Stores the results of a tile.
template <class Registers>
__attribute__((noinline)) void store_results(const FourTaps& shape, size_t i, size_t rows, size_t j,
                                             size_t columns, size_t channel,
                                             const int32_t* results) {
  constexpr size_t kCr = Registers::kCr;
  constexpr size_t kLanes = kCr / FourTaps::kParts;
  const DepthwiseArgs& args = shape.args;
  const size_t left = args.channels - channel;
  if (shape.in_registers) {
    const typename Registers::Bytes bytes(args.requantize);
    for (size_t r = 0; r < rows; ++r) {
      uint8_t* y = args.y + (i + r) * args.y_stride + j * args.channels + channel;
      for (size_t p = 0; p < columns; ++p, y += args.channels, results += kLanes) {
        bytes.store(y, Registers::load(results),
                    Registers::load(results + FourTaps::kMaxTile * kLanes), left);
      }
    }
    return;
  }
  for (size_t r = 0; r < rows; ++r) {
    for (size_t p = 0; p < columns; ++p, results += kCr) {
      for (size_t c = 0; c < kCr && c < left; c += 16) {
        Registers::store_sums(args, i + r, j + p, channel + c, results + c / 4);
      }
    }
  }
}

template <class Registers>
using HalfFunction = void (*)(const FourTaps& shape, const int8_t* w, const int8_t* moved,
                              const uint8_t* x, size_t half, FourTapsScratch<Registers>& scratch);

/// Returns the functions for tiles of 1, 2, ... pixels, each at the index of its number.
template <class Registers, size_t kRows, size_t kGroups, size_t... kLess>
constexpr std::array<HalfFunction<Registers>, sizeof...(kLess) + 1> halves_by_pixels(
    std::index_sequence<kLess...> /*of one less*/) {
  return {nullptr, compute_half<Registers, kRows, kLess + 1, kGroups>...};
}

/// Computes one block of channels of output rows i to i + kRows - 1, `chunk` pixels at a time.
template <class Registers, size_t kRows>
void run_rows(const FourTaps& shape, const int8_t* w, size_t i, size_t channel, size_t chunk,
              FourTapsScratch<Registers>& scratch) {
  constexpr size_t kTile = Registers::template kTile<kRows>;
  static_assert(kRows * kTile <= FourTaps::kMaxTile);
  // For any shape, and for one and two groups without stride and dilation.
  constexpr std::make_index_sequence<kTile> kLess;
  static constexpr std::array<HalfFunction<Registers>, kTile + 1> kHalves[] = {
      halves_by_pixels<Registers, kRows, 0>(kLess),
      halves_by_pixels<Registers, kRows, kRows == 2 ? 1 : 0>(kLess),
      halves_by_pixels<Registers, kRows, kRows == 2 ? 2 : 0>(kLess)};
  constexpr size_t kHalfBytes = FourTaps::kHalf * Registers::kCr;
  const DepthwiseArgs& args = shape.args;
  const bool dense = args.stride_w == 1 && args.dilation_w == 1 && shape.groups <= 2;
  const auto& halves = kHalves[dense ? shape.groups : 0];
  const uint8_t* const* rows = args.rows + i * args.stride_h;
  for (size_t begin = 0; begin < args.out_width; begin += chunk) {
    const size_t left = args.out_width - begin;
    const size_t count = left < chunk ? left : chunk;
    const size_t span = (count - 1) * args.stride_w + (args.kernel_w - 1) * args.dilation_w + 1;
    interleave_columns<Registers>(shape, rows, channel, begin * args.stride_w - args.pad_left, span,
                                  scratch.columns);
    for (size_t p = 0; p < count; p += kTile) {
      const size_t pixels = count - p < kTile ? count - p : kTile;
      const uint8_t* x =
          scratch.columns + p * args.stride_w * FourTapsScratch<Registers>::kColumnBytes;
      const auto compute = halves[pixels];
      compute(shape, w, scratch.moved, x, 0, scratch);
      compute(shape, w + kHalfBytes, scratch.moved + kHalfBytes, x + kHalfBytes, 1, scratch);
      store_results<Registers>(shape, i, kRows, begin + p, pixels, channel, scratch.results);
    }
  }
}

/// Computes one block of channels of output row i column by column, for kernels that are too wide
/// for the scratch.
template <class Registers>
__attribute__((noinline)) void run_wide_row(const FourTaps& shape, const int8_t* block, size_t i,
                                            size_t channel, FourTapsScratch<Registers>& scratch) {
  constexpr size_t kCr = Registers::kCr;
  const DepthwiseArgs& args = shape.args;
  const uint8_t* const* rows = args.rows + i * args.stride_h;
  for (size_t j = 0; j < args.out_width; ++j) {
    typename Registers::Vector acc[FourTaps::kParts];
#pragma GCC unroll 4
    for (size_t part = 0; part < FourTaps::kParts; ++part) {
      acc[part] = Registers::load(scratch.bias + part * kCr / FourTaps::kParts);
    }
    const int8_t* w = block;
    for (size_t s = 0; s < args.kernel_w; ++s) {
      const size_t x = j * args.stride_w + s * args.dilation_w - args.pad_left;
      for (size_t group = 0; group < shape.groups; ++group) {
        const uint8_t* four[FourTaps::kKr] = {args.zero, args.zero, args.zero, args.zero};
        size_t offset = channel;
        if (x < args.in_width) {
          group_rows(shape, rows, group, four);
          offset += x * args.channels;
        }
        Registers::interleave(four, offset, scratch.columns);
#pragma GCC unroll 4
        for (size_t part = 0; part < FourTaps::kParts; ++part, w += kCr) {
          Registers::dot(acc[part], Registers::load(scratch.columns + part * kCr),
                         Registers::load(w));
        }
      }
    }
#pragma GCC unroll 4
    for (size_t part = 0; part < FourTaps::kParts; ++part) {
      Registers::store(scratch.results + part * kCr / FourTaps::kParts, acc[part]);
    }
    store_results<Registers>({args, shape.groups, shape.taps, false}, i, 1, j, 1, channel,
                             scratch.results);
  }
}

/// Runs a whole call; the kernel itself.
template <class Registers>
void run_four_taps(const DepthwiseArgs& args) {
  using Scratch = FourTapsScratch<Registers>;
  Scratch scratch;
  const size_t groups = (args.kernel_h + FourTaps::kKr - 1) / FourTaps::kKr;
  const bool in_registers = args.requantize.residual == nullptr && Registers::products_fit(args);
  const FourTaps one_row{args, groups, args.kernel_h, in_registers};
  const FourTaps two_rows{args, groups, args.kernel_h + 1, in_registers};
  const size_t weights = args.kernel_w * groups;
  const bool row_to_spare = groups * FourTaps::kKr > args.kernel_h && args.stride_h == 1 &&
                            args.dilation_h == 1 && weights <= FourTaps::kMovedWeights;

  // The columns of `chunk` pixels fit the scratch; a chunk is made of whole tiles.
  constexpr size_t kChunkUnit = Registers::template kTile<1> > Registers::template kTile<2>
                                    ? Registers::template kTile<1>
                                    : Registers::template kTile<2>;
  const size_t capacity = Scratch::kColumns / groups;
  const size_t reach = (args.kernel_w - 1) * args.dilation_w + 1;
  size_t chunk = 0;
  if (capacity >= reach) {
    chunk = (capacity - reach) / args.stride_w + 1;
    if (chunk > kChunkUnit) chunk = chunk / kChunkUnit * kChunkUnit;
  }

  const int8_t* w = args.w;
  for (size_t channel = 0; channel < args.channels; channel += Registers::kCr) {
    copy_in_order_of_parts<Registers>(args.bias + channel, scratch.bias);
    copy_in_order_of_parts<Registers>(args.requantize.scale + channel, scratch.scale);
    if (row_to_spare) move_weights<Registers>(two_rows, w, scratch.moved);
    for (size_t i = 0; i < args.out_rows;) {
      const bool pair = row_to_spare && chunk != 0 && i + 1 < args.out_rows;
      if (chunk == 0) {
        run_wide_row<Registers>(one_row, w, i, channel, scratch);
      } else if (pair) {
        run_rows<Registers, 2>(two_rows, w, i, channel, chunk, scratch);
      } else {
        run_rows<Registers, 1>(one_row, w, i, channel, chunk, scratch);
      }
      i += pair ? 2 : 1;
    }
    w += weights * Scratch::kColumnBytes;
  }
}

}  // namespace edgekit
