#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/depthwise.h"
#include "kernels/multiply_arm_neon.h"
#include "kernels/requantize_arm_neon.h"

// Windows of 3x3 and 5x5, their pixels one or two apart, without dilation.
//
// sdot adds four products to a lane. The input is cut into cells of two rows by two columns, and a
// cell's four codes of a channel are laid side by side, once for all outputs that it reaches:
//
//   row 0   a0 a1 a2 ... of a column    b0 b1 b2 ... of the next     zip, zip    a0 c0 b0 d0
//   row 1   c0 c1 c2 ...                d0 d1 d2 ...                    -->      a1 c1 b1 d1  ...
//
// A window of 3x3 (5x5) lies in 2x2 (3x3) cells wherever it begins; what it does not take of them
// meets zero weights. Of outputs that lie one pixel apart, four share their cells, with four sets
// of weights: shifted by no, one row, one column, or both. A tile is two rows (or one) of up to
// eight such outputs in 4 channels: its sums take 16 registers, and each vector of weights serves
// four outputs.

namespace edgekit {
// Each file that includes this is compiled for its own instruction set: nothing here may be shared
// by the linker.
namespace {

/// Channels of a block and of a vector of cells.
constexpr size_t kCellBlock = 16;
constexpr size_t kCellLanes = 4;
/// Cells of 16 channels that scratch holds: 24 KiB, to stay in the first-level cache.
constexpr size_t kMostCells = 384;
/// Most neighbouring pixels of a tile.
constexpr size_t kCellPixels = 8;

inline void add_dot(int32x4_t& acc, int8x16_t w, int8x16_t x) {
  asm volatile("sdot %0.4s, %1.16b, %2.16b" : "+w"(acc) : "w"(w), "w"(x));
}

/// Stores the lanes [kFirst, kEnd) of four bytes each, `step` bytes apart, and moves `to` behind
/// them.
template <size_t kFirst, size_t kEnd>
EDGEKIT_INLINE void store_lanes_next(uint8_t*& to, int8x16_t lanes, size_t step) {
  EDGEKIT_UNROLL
  for (size_t lane = kFirst; lane < kEnd; ++lane) {
    asm volatile("st1 {%1.s}[%3], [%0], %2"
                 : "+r"(to)
                 : "w"(lanes), "r"(step), "i"(lane)
                 : "memory");
  }
}

/// A window's geometry.
template <size_t kSize, size_t kStride>
struct CellWindow {
  /// Cells under a window, in each direction.
  static constexpr size_t kCells = (kSize + 1) / 2;
  /// Neighbouring outputs that share their cells, in each direction.
  static constexpr size_t kShared = 3 - kStride;
  /// Vectors of weights of 4 channels, `[kCells][kCells][kShared][kShared]`.
  static constexpr size_t kVectors = kCells * kCells * kShared * kShared;
};

/// Four channels' weights in all their shifts, and their constants.
template <size_t kSize, size_t kStride>
struct CellWeights {
  using Window = CellWindow<kSize, kStride>;

  /// Reads four channels from the packed block of 16, `[kSize][groups][16][4]`.
  void read(const int8_t* packed, const int32_t* from_bias, const float* from_scale) {
    scale = vld1q_f32(from_scale);
    constexpr size_t kGroups = (kSize + 3) / 4;
    const int32x4_t sums = vld1q_s32(from_bias);
    vst1q_s32(bias, sums);
    vst1q_s32(bias + 4, sums);
    EDGEKIT_UNROLL
    for (size_t down = 0; down < Window::kShared; ++down) {
      // The columns -1 to kSize; those outside have no weights. A lane of group g holds the taps
      // 4g - down and below.
      uint32x4_t columns[kSize + 2][kGroups];
      EDGEKIT_UNROLL
      for (size_t g = 0; g < kGroups; ++g) {
        columns[0][g] = columns[kSize + 1][g] = vdupq_n_u32(0);
        EDGEKIT_UNROLL
        for (size_t s = 0; s < kSize; ++s) {
          const int8_t* own = packed + (s * kGroups + g) * kCellBlock * 4;
          uint32x4_t taps = vreinterpretq_u32_s8(vld1q_s8(own));
          if (down == 1) {
            taps = vshlq_n_u32(taps, 8);
            if (g != 0) {
              const int8x16_t above = vld1q_s8(own - kCellBlock * 4);
              taps = vsriq_n_u32(taps, vreinterpretq_u32_s8(above), 24);
            }
          }
          columns[s + 1][g] = taps;
        }
      }
      EDGEKIT_UNROLL
      for (size_t r = 0; r < Window::kCells; ++r) {
        EDGEKIT_UNROLL
        for (size_t c = 0; c < Window::kCells; ++c) {
          EDGEKIT_UNROLL
          for (size_t right = 0; right < Window::kShared; ++right) {
            const uint32x4_t first = columns[2 * c + 1 - right][r / 2];
            const uint32x4_t second = columns[2 * c + 2 - right][r / 2];
            const uint32x4_t cell =
                r % 2 == 0 ? vsliq_n_u32(first, second, 16) : vsriq_n_u32(second, first, 16);
            const size_t shift = down * Window::kShared + right;
            const size_t at = (r * Window::kCells + c) * Window::kShared * Window::kShared + shift;
            vst1q_s8(lanes + at * 16, vreinterpretq_s8_u32(cell));
          }
        }
      }
    }
  }

  alignas(64) int8_t lanes[Window::kVectors * 16];
  /// Twice, so that one load fills two vectors of sums.
  alignas(32) int32_t bias[8];
  float32x4_t scale;
};

/// Lays the cells of two rows by two columns of 16 channels side by side: cells of 4 channels to a
/// vector.
EDGEKIT_INLINE void make_cells(int8x16_t a, int8x16_t b, int8x16_t c, int8x16_t d,
                               int8x16_t (&cells)[4]) {
  const int16x8_t left_low = vreinterpretq_s16_s8(vzip1q_s8(a, c));
  const int16x8_t left_high = vreinterpretq_s16_s8(vzip2q_s8(a, c));
  const int16x8_t right_low = vreinterpretq_s16_s8(vzip1q_s8(b, d));
  const int16x8_t right_high = vreinterpretq_s16_s8(vzip2q_s8(b, d));
  cells[0] = vreinterpretq_s8_s16(vzip1q_s16(left_low, right_low));
  cells[1] = vreinterpretq_s8_s16(vzip2q_s16(left_low, right_low));
  cells[2] = vreinterpretq_s8_s16(vzip1q_s16(left_high, right_high));
  cells[3] = vreinterpretq_s8_s16(vzip2q_s16(left_high, right_high));
}

/// A part of the input as cells of 16 channels, `[4][rows][count][16]`: `count` cells a row, from
/// column `first` on, which is counted from pad_left left of the image.
struct CellRows {
  int8_t* bytes;
  size_t rows;
  size_t count;
  size_t first;

  size_t row_size() const { return count * 16; }
  size_t vector_size() const { return rows * row_size(); }
};

/// Where the next cells of each vector go.
struct NextCells {
  int8_t* at[4];
};

EDGEKIT_INLINE void store_cells(NextCells& next, const int8x16_t (&cells)[4]) {
  EDGEKIT_UNROLL
  for (size_t v = 0; v < 4; ++v) {
    vst1q_s8(next.at[v], cells[v]);
    next.at[v] += 16;
  }
}

/// Makes the cells of the next two columns.
EDGEKIT_INLINE void make_next_cells(const uint8_t*& upper, const uint8_t*& lower, size_t step,
                                    int8x16_t (&cells)[4]) {
  const int8x16_t a = load_strided(upper, step);
  const int8x16_t b = load_strided(upper, step);
  const int8x16_t c = load_strided(lower, step);
  const int8x16_t d = load_strided(lower, step);
  make_cells(a, b, c, d, cells);
}

/// How a row of cells meets the image: cells of padding, one that begins with it, cells inside, one
/// that ends with padding, cells of padding.
struct CellRun {
  CellRun(const DepthwiseArgs& args, size_t first, size_t count) {
    const size_t reach = args.in_width + args.pad_left;
    const size_t left = args.pad_left > first ? args.pad_left - first : 0;
    const size_t inside_end = reach > first ? reach - first : 0;
    before = left / 2 < count ? left / 2 : count;
    begins_with_padding = left % 2 != 0 && before < count;
    const size_t begin = before + (begins_with_padding ? 1 : 0);
    const size_t end = inside_end / 2 < count ? inside_end / 2 : count;
    inside = end > begin ? end - begin : 0;
    const size_t last = begin + inside;
    ends_with_padding = inside_end % 2 != 0 && inside_end / 2 == last && last < count;
    after = count - last - (ends_with_padding ? 1 : 0);
    column = first + left - args.pad_left;
  }

  size_t before;
  bool begins_with_padding;
  size_t inside;
  bool ends_with_padding;
  size_t after;
  /// The first column of the image.
  size_t column;
};

/// Fills rows of cells with the 16 channels from `channel` on. Row r holds rows[2 * r] and the one
/// behind it, or rows[last] where there is none: such a row meets zero weights.
__attribute__((noinline)) void fill_cells(const DepthwiseArgs& args, const uint8_t* const* rows,
                                          size_t last, size_t channel, const CellRows& cells) {
  const size_t step = args.channels;
  const CellRun run(args, cells.first, cells.count);
  const size_t offset = run.column * step + channel;
  // Alike in all channels; behind the last of them lies anything.
  const int8x16_t zeros = vreinterpretq_s8_u8(vld1q_dup_u8(args.zero));
  const int8x16_t padding[4] = {zeros, zeros, zeros, zeros};
  NextCells next;
  EDGEKIT_UNROLL
  for (size_t v = 0; v < 4; ++v) next.at[v] = cells.bytes + v * cells.vector_size();
  for (size_t r = 0; r < cells.rows; ++r) {
    const uint8_t* upper = rows[2 * r] + offset;
    const uint8_t* lower = rows[2 * r < last ? 2 * r + 1 : last] + offset;
    int8x16_t four[4];
    for (size_t left = run.before; left != 0; --left) store_cells(next, padding);
    if (run.begins_with_padding) {
      const int8x16_t b = load_strided(upper, step);
      make_cells(zeros, b, zeros, load_strided(lower, step), four);
      store_cells(next, four);
    }
    for (size_t left = run.inside / 2; left != 0; --left) {
      int8x16_t two[2][4];
      make_next_cells(upper, lower, step, two[0]);
      make_next_cells(upper, lower, step, two[1]);
      EDGEKIT_UNROLL
      for (size_t v = 0; v < 4; ++v) store_pair_next(next.at[v], two[0][v], two[1][v]);
    }
    if (run.inside % 2 != 0) {
      make_next_cells(upper, lower, step, four);
      store_cells(next, four);
    }
    if (run.ends_with_padding) {
      const int8x16_t a = load_codes(upper);
      make_cells(a, zeros, load_codes(lower), zeros, four);
      store_cells(next, four);
    }
    for (size_t left = run.after; left != 0; --left) store_cells(next, padding);
  }
}

/// What the tiles of 4 channels share. A copy of its own is known not to change when codes are
/// stored.
struct CellTiles {
  /// The pixels [begin, end), four channels from `channel` on.
  size_t begin;
  size_t end;
  size_t channel;
  /// Bytes between rows of cells, and between neighbouring output pixels.
  size_t row_size;
  size_t y_step;
  float32x4_t shift;
  /// Whether outputs are full and fast_codes() serves.
  bool fast;
};

/// Loads a row of cells.
template <size_t kCount>
EDGEKIT_INLINE void load_cells(int8x16_t (&cells)[kCount], const int8_t* from) {
  EDGEKIT_UNROLL
  for (size_t c = 0; c + 1 < kCount; c += 2) load_pair_next(from, cells + c);
  if constexpr (kCount % 2 != 0) cells[kCount - 1] = load_next(from);
}

/// Adds the products of kRows rows of kPixels outputs, whose first cell is at x.
template <size_t kSize, size_t kStride, size_t kRows, size_t kPixels>
EDGEKIT_INLINE void add_cells(int32x4_t (&acc)[kRows][kPixels], const int8_t* x, size_t row_size,
                              const int8_t* w) {
  using Window = CellWindow<kSize, kStride>;
  constexpr size_t kShared = Window::kShared;
  EDGEKIT_UNROLL
  for (size_t r = 0; r < Window::kCells; ++r, x += row_size) {
    int8x16_t cells[kPixels / kShared + Window::kCells - 1];
    load_cells(cells, x);
    EDGEKIT_UNROLL
    for (size_t c = 0; c < Window::kCells; ++c) {
      if constexpr (kShared == 2) {
        EDGEKIT_UNROLL
        for (size_t i = 0; i < kRows; ++i) {
          int8x16_t shifted[2];
          load_pair_next<kRows == 2 ? 32 : 64>(w, shifted);
          EDGEKIT_UNROLL
          for (size_t p = 0; p < kPixels; ++p) add_dot(acc[i][p], shifted[p % 2], cells[p / 2 + c]);
        }
      } else {
        const int8x16_t own = load_next(w);
        EDGEKIT_UNROLL
        for (size_t p = 0; p < kPixels; ++p) add_dot(acc[0][p], own, cells[p + c]);
      }
    }
  }
}

/// Writes the codes of `pixels` pixels of four channels, or of those that are left, in every case.
__attribute__((noinline)) void store_cell_pixels(const DepthwiseArgs& args,
                                                 const NeonRequantize& requantize,
                                                 const int32_t* sums, size_t i, size_t j,
                                                 size_t channel, size_t pixels) {
  const size_t channels =
      args.channels - channel < kCellLanes ? args.channels - channel : kCellLanes;
  const float32x4_t scale = vld1q_f32(args.requantize.scale + channel);
  const Scales16 scales = {{scale, scale, scale, scale}};
  for (size_t p = 0; p < pixels; p += 4, sums += 4 * kCellLanes) {
    const size_t count = pixels - p < 4 ? pixels - p : 4;
    const size_t at = (j + p) * args.channels + channel;
    const Sums16 acc = load_sums(sums);
    int8x16_t codes;
    if (requantize.has_residual()) {
      const uint8_t* residual = args.requantize.residual + i * args.requantize.residual_stride + at;
      codes = requantize.add(acc, scales, load_codes_4x4(residual, args.channels, count, channels));
    } else {
      codes = requantize.codes(acc, scales);
    }
    store_codes_4x4(args.y + i * args.y_stride + at, args.channels, codes, count, channels);
  }
}

/// A number of pixels that the compiler knows.
template <size_t kCount>
struct Pixels {
  static constexpr size_t value = kCount;
};

/// Computes kRows rows from i on of kPixels neighbouring pixels from j on, the last of which may
/// not be wanted. The first cell is at x, the codes go to y; moves both behind the tile.
template <size_t kSize, size_t kStride, size_t kRows, size_t kPixels>
EDGEKIT_INLINE void run_cell_tile(const DepthwiseArgs& args, const NeonRequantize& requantize,
                                  const CellTiles& tiles,
                                  const CellWeights<kSize, kStride>& weights, const int8_t*& x,
                                  uint8_t* (&y)[kRows], size_t i, size_t& j) {
  int32x4_t acc[kRows][kPixels];
  EDGEKIT_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    EDGEKIT_UNROLL
    for (size_t p = 0; p < kPixels; p += 2) load_pair_at(weights.bias, &acc[r][p]);
  }
  add_cells<kSize, kStride>(acc, x, tiles.row_size, weights.lanes);
  x += kPixels / CellWindow<kSize, kStride>::kShared * 16;

  const bool whole = tiles.end - j >= kPixels;
  if (!tiles.fast) {
    int32_t sums[kRows][kCellPixels][kCellLanes];
    EDGEKIT_UNROLL
    for (size_t r = 0; r < kRows; ++r) {
      EDGEKIT_UNROLL
      for (size_t p = 0; p < kPixels; ++p) vst1q_s32(sums[r][p], acc[r][p]);
    }
    const size_t pixels = whole ? kPixels : kPixels - 1;
    for (size_t r = 0; r < kRows; ++r) {
      store_cell_pixels(args, requantize, sums[r][0], i + r, j, tiles.channel, pixels);
    }
    j += kPixels;
    return;
  }
  j += kPixels;
  const float32x4_t scales[4] = {weights.scale, weights.scale, weights.scale, weights.scale};
  const size_t step = tiles.y_step;
  EDGEKIT_UNROLL
  for (size_t r = 0; r < kRows; ++r) {
    EDGEKIT_UNROLL
    for (size_t p = 0; p + 4 <= kPixels; p += 4) {
      const int32x4_t sums[4] = {acc[r][p], acc[r][p + 1], acc[r][p + 2], acc[r][p + 3]};
      const int8x16_t codes = NeonRequantize::fast_codes(sums, scales, tiles.shift);
      store_lanes_next<0, 3>(y[r], codes, step);
      if (p + 4 < kPixels || whole) store_lanes_next<3, 4>(y[r], codes, step);
    }
  }
  if constexpr (kPixels % 4 == 2) {
    constexpr size_t kLast = kRows - 1;
    const int32x4_t sums[4] = {acc[0][kPixels - 2], acc[0][kPixels - 1], acc[kLast][kPixels - 2],
                               acc[kLast][kPixels - 1]};
    const int8x16_t codes = NeonRequantize::fast_codes(sums, scales, tiles.shift);
    store_lanes_next<0, 1>(y[0], codes, step);
    if constexpr (kRows == 2) store_lanes_next<2, 3>(y[1], codes, step);
    if (whole) {
      store_lanes_next<1, 2>(y[0], codes, step);
      if constexpr (kRows == 2) store_lanes_next<3, 4>(y[1], codes, step);
    }
  }
}

/// Computes the pixels [begin, end) of the rows [top, bottom), kRows at a time, in the 16 channels
/// from `channel` on. The first row of cells is `first`.
template <size_t kSize, size_t kStride, size_t kRows>
__attribute__((noinline)) void run_cell_rows(const DepthwiseArgs& args,
                                             const NeonRequantize& requantize,
                                             const CellWeights<kSize, kStride>* weights,
                                             const CellRows& cells, size_t first, size_t top,
                                             size_t bottom, size_t begin, size_t end,
                                             size_t channel) {
  CellTiles tiles = {begin, end, channel, cells.row_size(), args.channels, requantize.shift(),
                     false};
  const int8_t* first_x = cells.bytes + first * cells.row_size();
  for (size_t v = 0; v < kCellBlock / kCellLanes && tiles.channel < tiles.y_step; ++v) {
    tiles.fast = requantize.is_fast() && tiles.y_step - tiles.channel >= kCellLanes;
    const int8_t* x = first_x;
    uint8_t* first_y = args.y + top * args.y_stride + begin * tiles.y_step + tiles.channel;
    for (size_t i = top; i < bottom; i += kRows, x += tiles.row_size) {
      uint8_t* y[kRows];
      EDGEKIT_UNROLL
      for (size_t r = 0; r < kRows; ++r, first_y += args.y_stride) y[r] = first_y;
      const int8_t* next_x = x;
      size_t j = begin;
      const auto run = [&](auto pixels) {
        run_cell_tile<kSize, kStride, kRows, decltype(pixels)::value>(args, requantize, tiles,
                                                                      weights[v], next_x, y, i, j);
      };
      while (j + 6 < end) run(Pixels<8>{});
      if (j + 4 < end) {
        run(Pixels<6>{});
      } else if (j + 2 < end) {
        run(Pixels<4>{});
      } else if (j < end) {
        run(Pixels<2>{});
      }
    }
    first_x += cells.vector_size();
    tiles.channel += kCellLanes;
  }
}

/// Computes the pixels [begin, end) of the rows [top, bottom), 16 channels from `channel` on.
template <size_t kSize, size_t kStride>
void run_cell_block(const DepthwiseArgs& args, const NeonRequantize& requantize,
                    const CellWeights<kSize, kStride>* weights, size_t top, size_t bottom,
                    size_t begin, size_t end, size_t channel) {
  using Window = CellWindow<kSize, kStride>;
  constexpr size_t kShared = Window::kShared;
  alignas(64) int8_t bytes[kMostCells * kCellBlock * 4];
  const CellRows cells = {bytes, (bottom - top + kShared - 1) / kShared + Window::kCells - 1,
                          (end - begin + 1) / 2 * 2 / kShared + Window::kCells - 1,
                          begin * kStride};
  const size_t last = (bottom - top - 1) * kStride + kSize - 1;
  fill_cells(args, args.rows + top * kStride, last, channel, cells);
  const size_t pairs = (bottom - top) / kShared;
  const size_t middle = top + pairs * kShared;
  if (top < middle) {
    run_cell_rows<kSize, kStride, kShared>(args, requantize, weights, cells, 0, top, middle, begin,
                                           end, channel);
  }
  if (middle < bottom) {
    run_cell_rows<kSize, kStride, 1>(args, requantize, weights, cells, pairs, middle, bottom, begin,
                                     end, channel);
  }
}

/// Runs a window of kSize by kSize, kStride apart, without dilation.
template <size_t kSize, size_t kStride>
void run_cells(const DepthwiseArgs& args) {
  using Window = CellWindow<kSize, kStride>;
  constexpr size_t kShared = Window::kShared;
  const NeonRequantize requantize(args.requantize);
  // As many rows of the whole width as fill scratch, or as few as a tile has, in parts.
  constexpr size_t kLongest = (kMostCells / Window::kCells - Window::kCells + 1) * kShared / 2 * 2;
  const size_t width = args.out_width < kLongest ? args.out_width : kLongest;
  const size_t count = (width + 1) / 2 * 2 / kShared + Window::kCells - 1;
  const size_t height = (kMostCells / count - Window::kCells + 1) * kShared;
  constexpr size_t kTaps = kSize * ((kSize + 3) / 4) * 4;
  for (size_t channel = 0; channel < args.channels; channel += kCellBlock) {
    CellWeights<kSize, kStride> weights[kCellBlock / kCellLanes];
    EDGEKIT_UNROLL
    for (size_t v = 0; v < kCellBlock / kCellLanes; ++v) {
      const size_t own_channel = channel + v * kCellLanes;
      weights[v].read(args.w + channel * kTaps + v * kCellLanes * 4, args.bias + own_channel,
                      args.requantize.scale + own_channel);
    }
    for (size_t top = 0; top < args.out_rows; top += height) {
      const size_t bottom = args.out_rows - top < height ? args.out_rows : top + height;
      for (size_t begin = 0; begin < args.out_width; begin += width) {
        const size_t end = args.out_width - begin < width ? args.out_width : begin + width;
        run_cell_block<kSize, kStride>(args, requantize, weights, top, bottom, begin, end, channel);
      }
    }
  }
}

/// Returns whether the window is kSize by kSize, kStride apart, without dilation.
template <size_t kSize, size_t kStride>
bool is_square(const DepthwiseArgs& args) {
  return args.kernel_h == kSize && args.kernel_w == kSize && args.stride_h == kStride &&
         args.stride_w == kStride && args.dilation_h == 1 && args.dilation_w == 1;
}

}  // namespace
}  // namespace edgekit
