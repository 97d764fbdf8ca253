#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/depthwise/depthwise.h"
#include "kernels/depthwise/four_taps_x86.h"
#include "kernels/requantize_x86_avx512vnni.h"

// 16 channels of four taps are one register. A tile is 1 or 2 output rows by 7 pixels: 14
// accumulators, 2 of weights, 1 of input.

namespace edgekit {
namespace {

struct Zmm {
  using Vector = __m512i;
  static constexpr size_t kParts = 1;
  template <size_t kRows>
  static constexpr size_t kTile = 7;

  static __m512i load(const void* from) { return _mm512_loadu_si512(from); }

  static void store(void* to, __m512i v) { _mm512_store_si512(to, v); }

  /// The intrinsic makes GCC 12 spill the accumulators.
  static void dot(__m512i& acc_s32x16, __m512i x_u8x64, __m512i w_s8x64) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc_s32x16) : "v"(x_u8x64), "v"(w_s8x64));
  }

  static __m512i move_down(__m512i w_s8x64, __m512i above_s8x64) {
    return _mm512_or_si512(_mm512_slli_epi32(w_s8x64, 8), _mm512_srli_epi32(above_s8x64, 24));
  }

  /// First dwords between the 128-bit lanes, then bytes within.
  static void interleave(const uint8_t* const* rows, size_t offset, uint8_t* to) {
    const __m512i dwords = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i bytes =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    __m512i x = _mm512_broadcast_i32x4(load16(rows[0] + offset));
    x = _mm512_mask_broadcast_i32x4(x, 0x00F0, load16(rows[1] + offset));
    x = _mm512_mask_broadcast_i32x4(x, 0x0F00, load16(rows[2] + offset));
    x = _mm512_mask_broadcast_i32x4(x, 0xF000, load16(rows[3] + offset));
    x = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(dwords, x), bytes);
    _mm512_store_si512(to, x);
  }

  static bool products_fit(const DepthwiseArgs& args) {
    return products_fit_int32(args.requantize.scale, args.channels);
  }

  static void store_pixel(const DepthwiseArgs& args, size_t i, size_t j, size_t channel,
                          const __m512i* acc_s32x16) {
    const __mmask16 lanes = first_lanes(args.channels - channel);
    const size_t pixel = j * args.channels + channel;
    const Requantize& requantize = args.requantize;
    const uint8_t* residual = requantize.residual;
    if (residual != nullptr) residual += i * requantize.residual_stride + pixel;
    const __m512i codes = requantize_lanes(requantize, *acc_s32x16, channel, residual, lanes);
    _mm_mask_storeu_epi8(args.y + i * args.y_stride + pixel, lanes, _mm512_cvtepi32_epi8(codes));
  }

  template <size_t kRows, size_t kPixels>
  static void store_tile(const DepthwiseArgs& args, size_t i, size_t j, size_t channel,
                         const __m512i (&acc_s32x16)[kRows][kPixels][kParts]) {
    const RequantizeBytes constants = requantize_bytes(args.requantize);
    const __mmask16 lanes = first_lanes(args.channels - channel);
    const __m512 scale = _mm512_loadu_ps(args.requantize.scale + channel);
#pragma GCC unroll 2
    for (size_t r = 0; r < kRows; ++r) {
      uint8_t* y = args.y + (i + r) * args.y_stride + j * args.channels + channel;
#pragma GCC unroll 2
      for (size_t p = 0; p < kPixels; p += 4) {
        // Behind the last pixel the first of the four is repeated, and not stored.
        const __m512i bytes =
            pack_bytes(constants, rounded_product(acc_s32x16[r][p][0], scale),
                       rounded_product(acc_s32x16[r][p + 1 < kPixels ? p + 1 : p][0], scale),
                       rounded_product(acc_s32x16[r][p + 2 < kPixels ? p + 2 : p][0], scale),
                       rounded_product(acc_s32x16[r][p + 3 < kPixels ? p + 3 : p][0], scale));
        store_codes(y, lanes, _mm512_castsi512_si128(bytes));
        if (p + 1 < kPixels) {
          store_codes(y + args.channels, lanes, _mm512_extracti32x4_epi32(bytes, 1));
        }
        if (p + 2 < kPixels) {
          store_codes(y + 2 * args.channels, lanes, _mm512_extracti32x4_epi32(bytes, 2));
        }
        if (p + 3 < kPixels) {
          store_codes(y + 3 * args.channels, lanes, _mm512_extracti32x4_epi32(bytes, 3));
        }
        y += 4 * args.channels;
      }
    }
  }

 private:
  static void store_codes(uint8_t* y, __mmask16 lanes, __m128i codes) {
    if (lanes == 0xFFFF) return _mm_storeu_si128(reinterpret_cast<__m128i*>(y), codes);
    _mm_mask_storeu_epi8(y, lanes, codes);
  }

  static __m128i load16(const uint8_t* x) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  }
};

}  // namespace

void depthwise_u8_s8c_u8_x86_avx512vnni(const DepthwiseArgs& args) { run_four_taps<Zmm>(args); }

}  // namespace edgekit
