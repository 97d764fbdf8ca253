#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/depthwise.h"
#include "kernels/depthwise/four_taps_x86.h"

// What slide_3x3_x86_avx512vnni.h and slide_5x5_x86_avx512vnni.h share. They walk along a row of
// outputs; each column of the input is interleaved in registers when it comes, as four_taps_x86.h
// describes it, and added to the outputs whose windows hold it.
//
// A last block of at most 32 channels would waste half of each register. It computes two output
// rows at once instead: kSplit is 2, the lower half of a register holds the first row's channels
// and the upper half those of the second row, and weights, biases and scales stand there twice.
//
// Registers is the class that four_taps_x86.h asks for, with 64 bytes in a register; through it
// everything here has internal linkage.

namespace edgekit {

/// One block of channels, and a row of outputs of it, or two.
struct Sliding {
  static constexpr size_t kMaxKernel = 5;

  Sliding(const DepthwiseArgs& args, size_t channel)
      : channels(args.channels),
        in_width(args.in_width),
        out_width(args.out_width),
        left(args.channels - channel),
        zero(args.zero[0]) {}

  /// Goes to output row i, and i + 1 where there is one; else row i is computed twice.
  template <size_t kKernel, size_t kSplit>
  __attribute__((always_inline)) void go_to(const DepthwiseArgs& args, size_t channel, size_t i) {
#pragma GCC unroll 2
    for (size_t s = 0; s < kSplit; ++s) {
      const size_t row = i + s < args.out_rows ? i + s : i;
      y[s] = args.y + row * args.y_stride + channel;
#pragma GCC unroll 5
      for (size_t r = 0; r < kKernel; ++r) {
        rows[s][r] = args.rows[row * args.stride_h + r * args.dilation_h] + channel;
      }
    }
  }

  size_t channels;
  size_t in_width;
  size_t out_width;
  /// Channels from this block's first on.
  size_t left;
  /// The byte of every zero point.
  uint8_t zero;
  /// The input rows under either output row, at the block's first channel.
  const uint8_t* rows[2][kMaxKernel];
  /// Where either output row's next pixel goes.
  uint8_t* y[2];
};

/// Returns a column of one input row, or of two.
template <class Registers, size_t kSplit>
__attribute__((always_inline)) inline __m512i load_column(const uint8_t* first,
                                                          const uint8_t* second, size_t offset) {
  static_assert(kSplit == 1 || kSplit == 2);
  if constexpr (kSplit == 1) {
    return Registers::load(first + offset);
  } else {
    const auto half = [&](const uint8_t* row) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + offset));
    };
    return _mm512_inserti64x4(_mm512_castsi256_si512(half(first)), half(second), 1);
  }
}

/// Returns constants of one block in the places where its channels stand.
template <class Registers, size_t kSplit>
__attribute__((always_inline)) inline __m512i load_constants(const void* from) {
  const __m512i v = Registers::load(from);
  if constexpr (kSplit == 1) return v;
  return _mm512_shuffle_i64x2(v, v, 0x44);
}

/// Returns 64 times a byte, in no register before it is needed.
static inline __m512i splat_rarely(uint8_t byte) {
  int32_t value = byte;
  __asm__ volatile("" : "+r"(value));
  return _mm512_set1_epi8(static_cast<int8_t>(value));
}

/// Stores one pixel of a block, or of two rows, and goes to the next.
template <class Registers, size_t kSplit>
__attribute__((always_inline)) inline void store_block(Sliding& at, __m512i bytes) {
  if constexpr (kSplit == 1) {
    Registers::store_first(at.y[0], bytes, at.left);
  } else {
    Registers::store_half(at.y[0], _mm512_castsi512_si256(bytes), at.left);
    Registers::store_half(at.y[1], _mm512_extracti64x4_epi64(bytes, 1), at.left);
    at.y[1] += at.channels;
  }
  at.y[0] += at.channels;
}

/// Runs a call: Slide::prepare() and Slide::run() for each block, those of Split for a last block
/// of which two rows fit a register.
template <class Registers, class Slide, class Split>
void slide_blocks(const DepthwiseArgs& args) {
  typename Slide::Constants constants(args.requantize);
  const int8_t* w = args.w;
  for (size_t channel = 0; channel < args.channels; channel += Registers::kCr) {
    if (args.channels - channel <= Registers::kCr / 2 && args.out_rows > 1) {
      Split::prepare(args, w, channel, constants);
      Split::run(args, channel, constants);
    } else {
      Slide::prepare(args, w, channel, constants);
      Slide::run(args, channel, constants);
    }
    w += args.kernel_w * Slide::kGroups * FourTapsScratch<Registers>::kColumnBytes;
  }
}

}  // namespace edgekit
