#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/requantize_x86_avx512vnni.h"
#include "kernels/shallow/shallow.h"
#include "kernels/shallow/shallow_x86.h"

// A tile is 14 pixels by 32 or 16 output channels: at most 28 accumulators, 2 of weights, 1 of
// input.

namespace edgekit {
namespace {

struct Zmm {
  using Vector = __m512i;
  static constexpr size_t kLanes = 16;

  static __m512i load(const void* from) { return _mm512_loadu_si512(from); }

  static void store(void* to, __m512i v) { _mm512_store_si512(to, v); }

  /// The intrinsic makes GCC go through a general register.
  static __m512i broadcast(const uint8_t* x) {
    __m512i four;
    __asm__("vpbroadcastd %1, %0" : "=v"(four) : "m"(*reinterpret_cast<const uint8_t (*)[4]>(x)));
    return four;
  }

  /// The intrinsic makes GCC 12 spill the accumulators.
  static void dot(__m512i& acc_s32x16, __m512i x_u8x64, __m512i w_s8x64) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc_s32x16) : "v"(x_u8x64), "v"(w_s8x64));
  }

  static bool products_fit(const ShallowArgs& args) {
    return products_fit_int32(args.requantize.scale, args.n);
  }

  static void store_sums(const ShallowArgs& args, size_t i, size_t j, size_t o,
                         const int32_t* sums) {
    const __mmask16 lanes = first_lanes(args.n - o);
    const size_t pixel = j * args.n + o;
    const Requantize& requantize = args.requantize;
    const uint8_t* residual = requantize.residual;
    if (residual != nullptr) residual += i * requantize.residual_stride + pixel;
    const __m512i codes = requantize_lanes(requantize, load(sums), o, residual, lanes);
    _mm_mask_storeu_epi8(args.y + i * args.y_stride + pixel, lanes, _mm512_cvtepi32_epi8(codes));
  }

  /// 32 channels of two pixels at a time; all are halved first, which leaves room for constants.
  template <size_t kPixels>
  static void store_tile(const ShallowArgs& args, size_t i, size_t j, size_t o,
                         const __m512i (&acc_s32x16)[kPixels][2]) {
    const __m512 scale_0 = _mm512_loadu_ps(args.requantize.scale + o);
    const __m512 scale_1 = _mm512_loadu_ps(args.requantize.scale + o + kLanes);
    __m512i words_s16x32[kPixels];
#pragma GCC unroll 16
    for (size_t p = 0; p < kPixels; ++p) {
      words_s16x32[p] = _mm512_packs_epi32(rounded_product(acc_s32x16[p][0], scale_0),
                                           rounded_product(acc_s32x16[p][1], scale_1));
    }
    const RequantizeBytes constants = requantize_bytes(args.requantize);
    const size_t left = args.n - o;
    const __mmask32 lanes = left >= 32 ? ~__mmask32{0} : (__mmask32{1} << left) - 1;
    uint8_t* y = args.y + i * args.y_stride + j * args.n + o;
#pragma GCC unroll 16
    for (size_t p = 0; p < kPixels; p += 2, y += 2 * args.n) {
      // Behind the last pixel the first of the two is repeated, and not stored.
      const size_t next = p + 1 < kPixels ? p + 1 : p;
      const __m512i bytes = pack_words(constants, words_s16x32[p], words_s16x32[next]);
      _mm256_mask_storeu_epi8(y, lanes, _mm512_castsi512_si256(bytes));
      if (next != p) {
        _mm256_mask_storeu_epi8(y + args.n, lanes, _mm512_extracti64x4_epi64(bytes, 1));
      }
    }
  }

  /// 16 channels of four pixels at a time.
  template <size_t kPixels>
  static void store_tile(const ShallowArgs& args, size_t i, size_t j, size_t o,
                         const __m512i (&acc_s32x16)[kPixels][1]) {
    const RequantizeBytes constants = requantize_bytes(args.requantize);
    const __m512 scale = _mm512_loadu_ps(args.requantize.scale + o);
    const __mmask16 lanes = first_lanes(args.n - o);
    uint8_t* y = args.y + i * args.y_stride + j * args.n + o;
#pragma GCC unroll 16
    for (size_t p = 0; p < kPixels; p += 4, y += 4 * args.n) {
      // Behind the last pixel the first of the four is repeated, and not stored.
      const __m512i bytes =
          pack_bytes(constants, rounded_product(acc_s32x16[p][0], scale),
                     rounded_product(acc_s32x16[p + 1 < kPixels ? p + 1 : p][0], scale),
                     rounded_product(acc_s32x16[p + 2 < kPixels ? p + 2 : p][0], scale),
                     rounded_product(acc_s32x16[p + 3 < kPixels ? p + 3 : p][0], scale));
      _mm_mask_storeu_epi8(y, lanes, _mm512_castsi512_si128(bytes));
      if (p + 1 < kPixels) {
        _mm_mask_storeu_epi8(y + args.n, lanes, _mm512_extracti32x4_epi32(bytes, 1));
      }
      if (p + 2 < kPixels) {
        _mm_mask_storeu_epi8(y + 2 * args.n, lanes, _mm512_extracti32x4_epi32(bytes, 2));
      }
      if (p + 3 < kPixels) {
        _mm_mask_storeu_epi8(y + 3 * args.n, lanes, _mm512_extracti32x4_epi32(bytes, 3));
      }
    }
  }
};

}  // namespace

void shallow_u8_s8c_u8_x86_avx512vnni(const ShallowArgs& args) { run_shallow<Zmm, 2, 14>(args); }

}  // namespace edgekit
