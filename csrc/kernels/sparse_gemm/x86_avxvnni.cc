#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kernels/gemm/gemm.h"
#include "kernels/sparse_gemm/panels_x86_avx2.h"

// Blocks of 16 columns by 4 of k: two registers, which 6 rows take from there.
//
//                 b0      b1        32 bytes each: 8 columns
//   row 0   a0    acc00   acc01     a: 4 bytes at the block's step, broadcast from memory
//   ...
//   row 5   a5    acc50   acc51

namespace edgekit {
namespace {

/// acc[c] += sum over 4 of a (u8) * b (s8), in the encoding that needs no AVX-512.
inline void dot(__m256i& acc_s32x8, __m256i a_u8x32, __m256i b_s8x32) {
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(acc_s32x8) : "x"(a_u8x32), "x"(b_s8x32));
}

struct Dots {
  static constexpr int kRows = 6;

  template <int kTileRows>
  struct Sums {
    __m256i acc[kTileRows][2];

    __attribute__((always_inline)) Sums() {
#pragma GCC unroll 8
      for (int i = 0; i < kTileRows; ++i) acc[i][0] = acc[i][1] = _mm256_setzero_si256();
    }
  };

  template <int kTileRows>
  __attribute__((always_inline)) static void add(const uint8_t* const (&rows)[kTileRows], size_t k,
                                                 const int8_t* w, Sums<kTileRows>& sums) {
    const __m256i b0 = load32(w);
    const __m256i b1 = load32(w + 32);
#pragma GCC unroll 8
    for (int i = 0; i < kTileRows; ++i) {
      const __m256i a_i = broadcast(rows[i] + k);
      dot(sums.acc[i][0], a_i, b0);
      dot(sums.acc[i][1], a_i, b1);
    }
  }

  template <int kTileRows>
  __attribute__((always_inline)) static void finish(const Sums<kTileRows>& sums,
                                                    __m256i (&acc)[kTileRows][2]) {
#pragma GCC unroll 8
    for (int i = 0; i < kTileRows; ++i) {
      acc[i][0] = sums.acc[i][0];
      acc[i][1] = sums.acc[i][1];
    }
  }
};

}  // namespace

void sparse_gemm_u8_s8c_u8_6x16c4_x86_avxvnni(const GemmArgs& args) { run_sparse<Dots>(args); }

}  // namespace edgekit
