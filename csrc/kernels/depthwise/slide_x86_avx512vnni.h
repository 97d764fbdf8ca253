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
// and the upper half those of the second row, and weights, biases and scales stand there twice. At
// most 16 channels take four rows, one to each quarter.
//
// Registers is the class that four_taps_x86.h asks for, with 64 bytes in a register; through it
// everything here has internal linkage.

namespace edgekit {

/// One block of channels, and a row of outputs of it, or two or four.
struct Sliding {
  static constexpr size_t kMaxKernel = 5;
  static constexpr size_t kMaxSplit = 4;

  Sliding(const DepthwiseArgs& args, size_t channel)
      : channels(args.channels),
        in_width(args.in_width),
        out_width(args.out_width),
        left(args.channels - channel),
        zero(args.zero[0]) {}

  /// Goes to output rows i to i + kSplit - 1; the last row stands for those that don't exist.
  template <size_t kKernel, size_t kSplit>
  __attribute__((always_inline)) void go_to(const DepthwiseArgs& args, size_t channel, size_t i) {
#pragma GCC unroll 4
    for (size_t s = 0; s < kSplit; ++s) {
      const size_t row = i + s < args.out_rows ? i + s : args.out_rows - 1;
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
  /// The input rows under each output row, at the block's first channel.
  const uint8_t* rows[kMaxSplit][kMaxKernel];
  /// Where each output row's next pixel goes.
  uint8_t* y[kMaxSplit];
};

/// Returns a column of row r under each output row.
template <class Registers, size_t kSplit>
__attribute__((always_inline)) inline __m512i load_column(const Sliding& at, size_t r,
                                                          size_t offset) {
  static_assert(kSplit == 1 || kSplit == 2 || kSplit == 4);
  if constexpr (kSplit == 1) {
    return Registers::load(at.rows[0][r] + offset);
  } else if constexpr (kSplit == 2) {
    const auto half = [&](size_t s) {
      return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(at.rows[s][r] + offset));
    };
    return _mm512_inserti64x4(_mm512_castsi256_si512(half(0)), half(1), 1);
  } else {
    const auto quarter = [&](size_t s) {
      return _mm_loadu_si128(reinterpret_cast<const __m128i*>(at.rows[s][r] + offset));
    };
    __m512i v = _mm512_inserti32x4(_mm512_castsi128_si512(quarter(0)), quarter(1), 1);
    v = _mm512_inserti32x4(v, quarter(2), 2);
    return _mm512_inserti32x4(v, quarter(3), 3);
  }
}

/// Returns constants of one block in the places where its channels stand.
template <class Registers, size_t kSplit>
__attribute__((always_inline)) inline __m512i load_constants(const void* from) {
  const __m512i v = Registers::load(from);
  if constexpr (kSplit == 1) return v;
  return _mm512_shuffle_i64x2(v, v, kSplit == 2 ? 0x44 : 0);
}

/// Returns 64 times a byte, in no register before it is needed.
static inline __m512i splat_rarely(uint8_t byte) {
  int32_t value = byte;
  __asm__ volatile("" : "+r"(value));
  return _mm512_set1_epi8(static_cast<int8_t>(value));
}

/// Stores a pixel of each output row and goes to the next.
template <class Registers, size_t kSplit>
__attribute__((always_inline)) inline void store_block(Sliding& at, __m512i bytes) {
  if constexpr (kSplit == 1) {
    Registers::store_first(at.y[0], bytes, at.left);
  } else if constexpr (kSplit == 2) {
    Registers::store_half(at.y[0], _mm512_castsi512_si256(bytes), at.left);
    Registers::store_half(at.y[1], _mm512_extracti64x4_epi64(bytes, 1), at.left);
  } else {
    Registers::store_quarter(at.y[0], _mm512_castsi512_si128(bytes), at.left);
    Registers::store_quarter(at.y[1], _mm512_extracti32x4_epi32(bytes, 1), at.left);
    Registers::store_quarter(at.y[2], _mm512_extracti32x4_epi32(bytes, 2), at.left);
    Registers::store_quarter(at.y[3], _mm512_extracti32x4_epi32(bytes, 3), at.left);
  }
#pragma GCC unroll 4
  for (size_t s = 0; s < kSplit; ++s) at.y[s] += at.channels;
}

/// Runs one block of a call.
template <class Slide>
void slide_block(const DepthwiseArgs& args, const int8_t* w, size_t channel,
                 typename Slide::Constants& constants) {
  Slide::prepare(args, w, channel, constants);
  Slide::run(args, channel, constants);
}

/// Runs a call: by Slide, but by Halves or Quarters a last block of which two or four rows fit a
/// register.
template <class Registers, class Slide, class Halves, class Quarters>
void slide_blocks(const DepthwiseArgs& args) {
  typename Slide::Constants constants(args.requantize);
  const int8_t* w = args.w;
  for (size_t channel = 0; channel < args.channels; channel += Registers::kCr) {
    const size_t left = args.channels - channel;
    if (left <= Registers::kCr / 4 && args.out_rows > 2) {
      slide_block<Quarters>(args, w, channel, constants);
    } else if (left <= Registers::kCr / 2 && args.out_rows > 1) {
      slide_block<Halves>(args, w, channel, constants);
    } else {
      slide_block<Slide>(args, w, channel, constants);
    }
    w += args.kernel_w * Slide::kGroups * FourTapsScratch<Registers>::kColumnBytes;
  }
}

}  // namespace edgekit
