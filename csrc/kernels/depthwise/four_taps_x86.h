#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>

#include "kernels/depthwise/depthwise.h"

// What the depthwise kernels on vpdpbusd share. Four vertical taps of 16 channels make 64 bytes:
//
//   column x:   dword c = x[row 0][c], x[row 1][c], x[row 2][c], x[row 3][c]        0 <= c < 16
//
// Each column of the input is interleaved once into scratch on the stack, 64 bytes for each group
// of four rows, and then read by all kernel_w taps. Where a group has a row to spare (3x3 and 5x5
// with stride 1), the same bytes serve the output row below, with weights moved down by one tap:
//
//   output row i:      w0 w1 w2 0          output row i + 1:      0 w0 w1 w2
//
// An instruction set's part is a class in its file's anonymous namespace, through which everything
// here has internal linkage too:
//
//   Vector                        a register
//   kParts                        registers that hold 64 bytes, or 16 accumulators
//   kTile<rows>                   pixels of a tile of 1 or 2 output rows
//   load(p)                       loads a register
//   store(p, v)                   stores one at a multiple of 64
//   dot(acc, x, w)                acc[c] += sum over 4 of x (u8) * w (s8)
//   move_down(w, above)           dword c: the last byte of above[c], then the first 3 of w[c]
//   interleave(rows, offset, to)  interleaves the 16 channels at rows[0..3] + offset
//   products_fit(args)            whether store_tile may be used
//   store_tile(args, i, j, channel, acc)
//                                 stores acc[rows][pixels][kParts]; there is no residual
//   store_pixel(args, i, j, channel, acc)
//                                 stores the channels of acc[kParts], in every case

namespace edgekit {

struct FourTaps {
  static constexpr size_t kCr = 16;
  static constexpr size_t kKr = 4;
  static constexpr size_t kBytes = kCr * kKr;
  /// Interleaved columns that fit the scratch, counted for all groups together: 16 KiB.
  static constexpr size_t kColumns = 256;
  /// Columns of weights of one channel block that can be moved down for the second output row:
  /// 4 KiB.
  static constexpr size_t kMovedWeights = 64;
  /// Accumulators of the largest tile.
  static constexpr size_t kMaxTile = 2 * 7 * kCr;

  const DepthwiseArgs& args;
  /// Groups of four rows that cover kernel_h taps.
  size_t groups;
  /// Rows that one output row, or two, need: kernel_h or kernel_h + 1.
  size_t taps;
  /// Whether tiles are requantized in registers.
  bool bytes_in_registers;
};

/// Room on the stack of one call.
struct FourTapsScratch {
  alignas(64) uint8_t columns[FourTaps::kColumns * FourTaps::kBytes];
  alignas(64) int8_t moved[FourTaps::kMovedWeights * FourTaps::kBytes];
  alignas(64) int32_t accumulators[FourTaps::kMaxTile];
};

/// Points to four rows of `group`; those past the last tap meet zero weights and repeat the first.
static inline void group_rows(const FourTaps& shape, const uint8_t* const* rows, size_t group,
                              const uint8_t** four) {
  for (size_t l = 0; l < FourTaps::kKr; ++l) {
    const size_t tap = group * FourTaps::kKr + l;
    four[l] = rows[tap < shape.taps ? tap * shape.args.dilation_h : 0];
  }
}

/// Moves one block's weights down by a tap, from each group into the next.
template <class Registers>
void move_weights(const FourTaps& shape, const int8_t* w, int8_t* moved) {
  using Vector = typename Registers::Vector;
  constexpr size_t kPartBytes = FourTaps::kBytes / Registers::kParts;
  for (size_t s = 0; s < shape.args.kernel_w; ++s) {
    Vector above[Registers::kParts] = {};
    for (size_t group = 0; group < shape.groups; ++group) {
#pragma GCC unroll 2
      for (size_t part = 0; part < Registers::kParts; ++part) {
        const Vector here = Registers::load(w + part * kPartBytes);
        Registers::store(moved + part * kPartBytes, Registers::move_down(here, above[part]));
        above[part] = here;
      }
      w += FourTaps::kBytes;
      moved += FourTaps::kBytes;
    }
  }
}

template <class Registers>
void copy_column(const uint8_t* from, uint8_t* to) {
  constexpr size_t kPartBytes = FourTaps::kBytes / Registers::kParts;
#pragma GCC unroll 2
  for (size_t part = 0; part < Registers::kParts; ++part) {
    Registers::store(to + part * kPartBytes, Registers::load(from + part * kPartBytes));
  }
}

/// Interleaves `count` input columns from `first` (which wraps around left of the row) into
/// scratch, kColumns / groups columns a group apart.
template <class Registers>
void interleave_columns(const FourTaps& shape, const uint8_t* const* rows, size_t channel,
                        size_t first, size_t count, uint8_t* scratch) {
  const DepthwiseArgs& args = shape.args;
  const uint8_t* const zero[] = {args.zero, args.zero, args.zero, args.zero};
  alignas(64) uint8_t outside[FourTaps::kBytes];
  Registers::interleave(zero, channel, outside);
  // Of the columns, [0, left) and [right, count) are outside the row.
  const size_t to_row = first < args.in_width ? 0 : 0 - first;
  const size_t left = to_row < count ? to_row : count;
  const size_t to_end = args.in_width - first;
  const size_t right = to_end < left ? left : to_end < count ? to_end : count;
  const size_t group_bytes = FourTaps::kColumns / shape.groups * FourTaps::kBytes;
  for (size_t group = 0; group < shape.groups; ++group) {
    const uint8_t* four[FourTaps::kKr];
    group_rows(shape, rows, group, four);
    uint8_t* to = scratch + group * group_bytes;
    size_t column = 0;
    for (; column < left; ++column, to += FourTaps::kBytes) copy_column<Registers>(outside, to);
    size_t offset = (first + column) * args.channels + channel;
    for (; column < right; ++column, to += FourTaps::kBytes, offset += args.channels) {
      Registers::interleave(four, offset, to);
    }
    for (; column < count; ++column, to += FourTaps::kBytes) copy_column<Registers>(outside, to);
  }
}

/// Stores a tile of accumulators pixel by pixel; they come by way of memory.
template <class Registers>
__attribute__((noinline)) void store_accumulators(const DepthwiseArgs& args, size_t i, size_t rows,
                                                  size_t j, size_t columns, size_t channel,
                                                  const int32_t* accumulators) {
  constexpr size_t kLanes = FourTaps::kCr / Registers::kParts;
  for (size_t r = 0; r < rows; ++r) {
    for (size_t column = 0; column < columns; ++column, accumulators += FourTaps::kCr) {
      typename Registers::Vector acc[Registers::kParts];
#pragma GCC unroll 2
      for (size_t part = 0; part < Registers::kParts; ++part) {
        acc[part] = Registers::load(accumulators + part * kLanes);
      }
      Registers::store_pixel(args, i + r, j + column, channel, acc);
    }
  }
}

/// Computes output rows i and, if kRows is 2, i + 1, pixels j to j + kPixels - 1. `x` is the
/// scratch of pixel j's first column; `accumulators` is room for the tile.
template <class Registers, size_t kRows, size_t kPixels>
__attribute__((noinline)) void tile(const FourTaps& shape, const int8_t* w, const int8_t* moved,
                                    const uint8_t* x, size_t i, size_t j, size_t channel,
                                    int32_t* accumulators) {
  constexpr size_t kParts = Registers::kParts;
  constexpr size_t kLanes = FourTaps::kCr / kParts;
  constexpr size_t kPartBytes = FourTaps::kBytes / kParts;
  const DepthwiseArgs& args = shape.args;
  typename Registers::Vector acc[kRows][kPixels][kParts];
#pragma GCC unroll 2
  for (size_t part = 0; part < kParts; ++part) {
    const typename Registers::Vector bias = Registers::load(args.bias + channel + part * kLanes);
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
      for (size_t p = 0; p < kPixels; ++p) acc[r][p][part] = bias;
    }
  }

  const size_t group_bytes = FourTaps::kColumns / shape.groups * FourTaps::kBytes;
  const size_t pixel_bytes = args.stride_w * FourTaps::kBytes;
  for (size_t s = 0; s < args.kernel_w; ++s) {
    const uint8_t* column = x + s * args.dilation_w * FourTaps::kBytes;
    for (size_t group = 0; group < shape.groups; ++group) {
#pragma GCC unroll 2
      for (size_t part = 0; part < kParts; ++part) {
        const auto w_0 = Registers::load(w + part * kPartBytes);
        const auto w_1 = kRows == 2 ? Registers::load(moved + part * kPartBytes) : w_0;
#pragma GCC unroll 8
        for (size_t p = 0; p < kPixels; ++p) {
          const auto x_p = Registers::load(column + p * pixel_bytes + part * kPartBytes);
          Registers::dot(acc[0][p][part], x_p, w_0);
          if constexpr (kRows == 2) Registers::dot(acc[1][p][part], x_p, w_1);
        }
      }
      column += group_bytes;
      w += FourTaps::kBytes;
      if constexpr (kRows == 2) moved += FourTaps::kBytes;
    }
  }

  if (shape.bytes_in_registers) return Registers::store_tile(args, i, j, channel, acc);
#pragma GCC unroll 2
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (size_t p = 0; p < kPixels; ++p) {
#pragma GCC unroll 2
      for (size_t part = 0; part < kParts; ++part) {
        Registers::store(accumulators + (r * kPixels + p) * FourTaps::kCr + part * kLanes,
                         acc[r][p][part]);
      }
    }
  }
  store_accumulators<Registers>(args, i, kRows, j, kPixels, channel, accumulators);
}

using TileFunction = void (*)(const FourTaps& shape, const int8_t* w, const int8_t* moved,
                              const uint8_t* x, size_t i, size_t j, size_t channel,
                              int32_t* accumulators);

/// Returns the functions for tiles of 1, 2, ... pixels, each at the index of its number.
template <class Registers, size_t kRows, size_t... kLess>
constexpr std::array<TileFunction, sizeof...(kLess) + 1> tiles_by_pixels(
    std::index_sequence<kLess...> /*of one less*/) {
  return {nullptr, tile<Registers, kRows, kLess + 1>...};
}

/// Computes one block of channels of output rows i to i + kRows - 1, `chunk` pixels at a time.
template <class Registers, size_t kRows>
void run_rows(const FourTaps& shape, const int8_t* w, size_t i, size_t channel, size_t chunk,
              FourTapsScratch& scratch) {
  constexpr size_t kTile = Registers::template kTile<kRows>;
  static_assert(kRows * kTile * FourTaps::kCr <= FourTaps::kMaxTile);
  constexpr auto kTiles = tiles_by_pixels<Registers, kRows>(std::make_index_sequence<kTile>());
  const DepthwiseArgs& args = shape.args;
  const uint8_t* const* rows = args.rows + i * args.stride_h;
  if constexpr (kRows == 2) move_weights<Registers>(shape, w, scratch.moved);
  for (size_t begin = 0; begin < args.out_width; begin += chunk) {
    const size_t left = args.out_width - begin;
    const size_t count = left < chunk ? left : chunk;
    const size_t span = (count - 1) * args.stride_w + (args.kernel_w - 1) * args.dilation_w + 1;
    interleave_columns<Registers>(shape, rows, channel, begin * args.stride_w - args.pad_left, span,
                                  scratch.columns);
    for (size_t p = 0; p < count; p += kTile) {
      const uint8_t* x = scratch.columns + p * args.stride_w * FourTaps::kBytes;
      const TileFunction compute = kTiles[count - p < kTile ? count - p : kTile];
      compute(shape, w, scratch.moved, x, i, begin + p, channel, scratch.accumulators);
    }
  }
}

/// Computes one block of channels of output row i column by column, for kernels that are too wide
/// for the scratch.
template <class Registers>
void run_wide_row(const FourTaps& shape, const int8_t* block, size_t i, size_t channel) {
  constexpr size_t kPartBytes = FourTaps::kBytes / Registers::kParts;
  const DepthwiseArgs& args = shape.args;
  const uint8_t* const* rows = args.rows + i * args.stride_h;
  alignas(64) uint8_t column[FourTaps::kBytes];
  for (size_t j = 0; j < args.out_width; ++j) {
    typename Registers::Vector acc[Registers::kParts];
    for (size_t part = 0; part < Registers::kParts; ++part) {
      acc[part] = Registers::load(args.bias + channel + part * FourTaps::kCr / Registers::kParts);
    }
    const int8_t* w = block;
    for (size_t s = 0; s < args.kernel_w; ++s) {
      const size_t x = j * args.stride_w + s * args.dilation_w - args.pad_left;
      for (size_t group = 0; group < shape.groups; ++group, w += FourTaps::kBytes) {
        const uint8_t* four[FourTaps::kKr] = {args.zero, args.zero, args.zero, args.zero};
        size_t offset = channel;
        if (x < args.in_width) {
          group_rows(shape, rows, group, four);
          offset += x * args.channels;
        }
        Registers::interleave(four, offset, column);
#pragma GCC unroll 2
        for (size_t part = 0; part < Registers::kParts; ++part) {
          Registers::dot(acc[part], Registers::load(column + part * kPartBytes),
                         Registers::load(w + part * kPartBytes));
        }
      }
    }
    Registers::store_pixel(args, i, j, channel, acc);
  }
}

/// Runs a whole call; the kernel itself.
template <class Registers>
void run_four_taps(const DepthwiseArgs& args) {
  FourTapsScratch scratch;
  const size_t groups = (args.kernel_h + FourTaps::kKr - 1) / FourTaps::kKr;
  const bool bytes_in_registers =
      args.requantize.residual == nullptr && Registers::products_fit(args);
  const FourTaps one_row{args, groups, args.kernel_h, bytes_in_registers};
  const FourTaps two_rows{args, groups, args.kernel_h + 1, bytes_in_registers};
  const size_t weights = args.kernel_w * groups;
  const bool row_to_spare = groups * FourTaps::kKr > args.kernel_h && args.stride_h == 1 &&
                            args.dilation_h == 1 && weights <= FourTaps::kMovedWeights;

  // The columns of `chunk` pixels fit the scratch; a chunk is made of whole tiles.
  constexpr size_t kChunkUnit = Registers::template kTile<1> * Registers::template kTile<2>;
  const size_t capacity = FourTaps::kColumns / groups;
  const size_t reach = (args.kernel_w - 1) * args.dilation_w + 1;
  size_t chunk = 0;
  if (capacity >= reach) {
    chunk = (capacity - reach) / args.stride_w + 1;
    if (chunk > kChunkUnit) chunk = chunk / kChunkUnit * kChunkUnit;
  }

  for (size_t i = 0; i < args.out_rows;) {
    const bool pair = row_to_spare && chunk != 0 && i + 1 < args.out_rows;
    const int8_t* w = args.w;
    for (size_t channel = 0; channel < args.channels; channel += FourTaps::kCr) {
      if (chunk == 0) {
        run_wide_row<Registers>(one_row, w, i, channel);
      } else if (pair) {
        run_rows<Registers, 2>(two_rows, w, i, channel, chunk, scratch);
      } else {
        run_rows<Registers, 1>(one_row, w, i, channel, chunk, scratch);
      }
      w += weights * FourTaps::kBytes;
    }
    i += pair ? 2 : 1;
  }
}

}  // namespace edgekit
