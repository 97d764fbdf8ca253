#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/requantize_x86_avx2.h"
#include "kernels/shallow/shallow.h"
#include "kernels/shallow/shallow_x86.h"

// A tile is 6 pixels by 16 output channels: 12 accumulators, 2 of weights, 1 of input.

namespace edgekit {
namespace {

struct Ymm {
  using Vector = __m256i;
  static constexpr size_t kLanes = 8;

  static __m256i load(const void* from) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(from));
  }

  static void store(void* to, __m256i v) { _mm256_store_si256(static_cast<__m256i*>(to), v); }

  /// The intrinsic makes GCC go through a general register.
  static __m256i broadcast(const uint8_t* x) {
    __m256i four;
    __asm__("vpbroadcastd %1, %0" : "=x"(four) : "m"(*reinterpret_cast<const uint8_t (*)[4]>(x)));
    return four;
  }

  /// In the encoding that needs no AVX-512.
  static void dot(__m256i& acc_s32x8, __m256i x_u8x32, __m256i w_s8x32) {
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc_s32x8) : "x"(x_u8x32), "x"(w_s8x32));
  }

  static bool products_fit(const ShallowArgs& args) {
    return products_fit_int32(args.requantize.scale, args.n);
  }

  static void store_sums(const ShallowArgs& args, size_t i, size_t j, size_t o,
                         const int32_t* sums) {
    const size_t pixel = j * args.n + o;
    const size_t left = args.n - o;
    const uint8_t* residual = args.requantize.residual;
    if (residual != nullptr) residual += i * args.requantize.residual_stride + pixel;
    requantize_store(args.requantize, load(sums), load(sums + kLanes), o, residual,
                     args.y + i * args.y_stride + pixel,
                     left < ShallowBlock::kNr ? left : ShallowBlock::kNr);
  }

  /// Two pixels at a time.
  template <size_t kPixels>
  static void store_tile(const ShallowArgs& args, size_t i, size_t j, size_t o,
                         const __m256i (&acc_s32x8)[kPixels][2]) {
    const RequantizePairs constants = requantize_pairs(args.requantize);
    const float* scale = args.requantize.scale + o;
    const size_t left = args.n - o;
    uint8_t* y = args.y + i * args.y_stride + j * args.n + o;
#pragma GCC unroll 8
    for (size_t p = 0; p < kPixels; p += 2, y += 2 * args.n) {
      const size_t next = p + 1 < kPixels ? p + 1 : p;
      const __m256i bytes = requantize_pair(constants, scale, acc_s32x8[p], acc_s32x8[next]);
      store_codes(y, _mm256_castsi256_si128(bytes), left);
      if (next != p) store_codes(y + args.n, _mm256_extracti128_si256(bytes, 1), left);
    }
  }

 private:
  /// Stores the first `left` of 16 codes.
  static void store_codes(uint8_t* y, __m128i codes, size_t left) {
    if (left >= ShallowBlock::kNr) {
      return _mm_storeu_si128(reinterpret_cast<__m128i*>(y), codes);
    }
    alignas(16) uint8_t bytes[ShallowBlock::kNr];
    _mm_store_si128(reinterpret_cast<__m128i*>(bytes), codes);
    copy_bytes(y, bytes, left);
  }
};

}  // namespace

void shallow_u8_s8c_u8_x86_avxvnni(const ShallowArgs& args) { run_shallow<Ymm, 2, 6>(args); }

}  // namespace edgekit
