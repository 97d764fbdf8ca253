#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/shallow/shallow.h"

// What the shallow kernels on vpdpbusd share. Four bytes of a window's row are broadcast and meet
// four weights of each of 16 output channels, 64 bytes:
//
//   acc[pixel][o]  +=  x[row r][pixel * step + 4d .. + 3] . w[r][d][o][0 .. 3]
//
// An instruction set's part is a class in its file's anonymous namespace, through which everything
// here has internal linkage too:
//
//   Vector                 a register
//   kLanes                 output channels of a register
//   load(p)                loads a register
//   broadcast(p)           repeats the four bytes at p
//   dot(acc, x, w)         acc[o] += sum over 4 of x (u8) * w (s8)
//   store(p, v)            stores a register at a multiple of 64
//   products_fit(args)     whether store_tile may be used
//   store_tile(args, i, j, o, acc)
//                          stores acc[pixels][parts] from channel o on; there is no residual
//   store_sums(args, i, j, o, sums)
//                          stores a pixel's 16 channels (or as many as there are), in every case

namespace edgekit {

struct ShallowBlock {
  static constexpr size_t kNr = 16;
  static constexpr size_t kKr = 4;
  static constexpr size_t kBytes = kNr * kKr;

  const ShallowArgs& args;
  /// Multiplications of a window's row.
  size_t dwords;
  /// Bytes of weights of 16 output channels.
  size_t panel_size;
  /// Whether tiles are requantized in registers.
  bool bytes_in_registers;
  /// Room for the sums of a tile that are not.
  int32_t* sums;
};

/// Stores a tile of sums pixel by pixel; they come by way of memory.
template <class Registers, size_t kParts>
__attribute__((noinline)) void store_shallow_sums(const ShallowArgs& args, size_t i, size_t j,
                                                  size_t pixels, size_t o, const int32_t* sums) {
  for (size_t p = 0; p < pixels; ++p) {
    for (size_t c = 0; c < kParts * Registers::kLanes; c += ShallowBlock::kNr) {
      if (o + c < args.n) Registers::store_sums(args, i, j + p, o + c, sums + c);
    }
    sums += kParts * Registers::kLanes;
  }
}

/// Computes pixels j to j + kPixels - 1 of output row i, channels o to o + kParts * kLanes - 1.
template <class Registers, size_t kParts, size_t kPixels>
__attribute__((noinline)) void shallow_tile(const ShallowBlock& block, const int8_t* panel,
                                            size_t i, size_t j, size_t o) {
  constexpr size_t kLanes = Registers::kLanes;
  constexpr size_t kPartBytes = kLanes * ShallowBlock::kKr;
  const ShallowArgs& args = block.args;
  typename Registers::Vector acc[kPixels][kParts];
#pragma GCC unroll 2
  for (size_t part = 0; part < kParts; ++part) {
    const typename Registers::Vector bias = Registers::load(args.bias + o + part * kLanes);
#pragma GCC unroll 16
    for (size_t p = 0; p < kPixels; ++p) acc[p][part] = bias;
  }
  // Parts of a panel are neighbours; the next panel follows this one's last row.
  const size_t part_stride = kPartBytes < ShallowBlock::kBytes ? kPartBytes : block.panel_size;
  const size_t step = args.stride_w * args.channels;
  const uint8_t* const* rows = args.rows + i * args.stride_h;
  for (size_t r = 0; r < args.kernel_h; ++r, rows += args.dilation_h) {
    const uint8_t* x = *rows + j * step;
    for (size_t d = 0; d < block.dwords; ++d, x += ShallowBlock::kKr) {
      typename Registers::Vector w[kParts];
#pragma GCC unroll 2
      for (size_t part = 0; part < kParts; ++part) {
        w[part] = Registers::load(panel + part * part_stride);
      }
      panel += ShallowBlock::kBytes;
      const uint8_t* x_p = x;
#pragma GCC unroll 16
      for (size_t p = 0; p < kPixels; ++p, x_p += step) {
        const typename Registers::Vector four = Registers::broadcast(x_p);
#pragma GCC unroll 2
        for (size_t part = 0; part < kParts; ++part) Registers::dot(acc[p][part], four, w[part]);
      }
    }
  }

  if (block.bytes_in_registers) return Registers::store_tile(args, i, j, o, acc);
#pragma GCC unroll 16
  for (size_t p = 0; p < kPixels; ++p) {
#pragma GCC unroll 2
    for (size_t part = 0; part < kParts; ++part) {
      Registers::store(block.sums + (p * kParts + part) * kLanes, acc[p][part]);
    }
  }
  store_shallow_sums<Registers, kParts>(args, i, j, kPixels, o, block.sums);
}

/// Computes the channels of kParts registers of one output row, in tiles of kPixels and then of
/// half as many.
template <class Registers, size_t kParts, size_t kPixels>
void shallow_row(const ShallowBlock& block, const int8_t* panel, size_t i, size_t j, size_t o) {
  for (; j + kPixels <= block.args.out_width; j += kPixels) {
    shallow_tile<Registers, kParts, kPixels>(block, panel, i, j, o);
  }
  if constexpr (kPixels > 1) {
    shallow_row<Registers, kParts, kPixels / 2>(block, panel, i, j, o);
  }
}

/// Runs a whole call, in blocks of the channels of kParts registers; the kernel itself.
template <class Registers, size_t kParts, size_t kPixels>
void run_shallow(const ShallowArgs& args) {
  constexpr size_t kChannels = kParts * Registers::kLanes;
  const size_t dwords = (args.kernel_w * args.channels + ShallowBlock::kKr - 1) / ShallowBlock::kKr;
  const bool bytes_in_registers =
      args.requantize.residual == nullptr && Registers::products_fit(args);
  alignas(64) int32_t sums[kPixels * kChannels];
  const ShallowBlock block{args, dwords, args.kernel_h * dwords * ShallowBlock::kBytes,
                           bytes_in_registers, sums};
  for (size_t i = 0; i < args.out_rows; ++i) {
    for (size_t o = 0; o < args.n; o += kChannels) {
      const int8_t* panel = args.w + o / ShallowBlock::kNr * block.panel_size;
      if constexpr (kChannels > ShallowBlock::kNr) {
        if (args.n - o <= ShallowBlock::kNr) {
          shallow_row<Registers, 1, kPixels>(block, panel, i, 0, o);
          continue;
        }
      }
      shallow_row<Registers, kParts, kPixels>(block, panel, i, 0, o);
    }
  }
}

}  // namespace edgekit
